"""The check every run starts with: one batch forward and backward, and every promise about it held."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from attar.batch import Batch
from attar.conformance.mixed_batches import check_mixed
from attar.conformance.unlabelled_batches import check_unlabelled
from attar.errors import AttarError
from attar.knowledge import Losses, learning, weights_of
from attar.methods.base import Method
from attar.schedules import ByLayer, value


def check(method: Method, batch: Batch) -> Losses:
    """Run one batch through a method and hold what must be true of it; the method is as before afterwards.

    Every edge names knowledge that exists and its shapes agree; the loss is one finite number; every trainable
    parameter gets a gradient, now or in another epoch, and no frozen one does; every loss and regressor with
    parameters belongs to the method; no loss follows from the label of a row that has none; where images are mixed,
    edges from the labels alone follow from them.

    Returns:
        The losses of the batch, of the last phase where there are several.

    Raises:
        AttarError: one of these does not hold; the message names the edge or the parameter.
    """
    check_outputs(method)
    check_schedules(method, batch.epochs)
    check_ownership(method)
    with _restored(method):
        check_mixed(method, batch)
        check_unlabelled(method, batch)
    return check_learning(method, batch)


def check_learning(method: Method, batch: Batch) -> Losses:
    """What `check` holds of the loss and its gradients; the method is as before afterwards."""
    with _restored(method):
        learnt: set[str] = set()
        for phase in method.phases:
            losses = method.batch_losses(replace(batch, phase=phase))
            check_total(losses)
            method.zero_grad(set_to_none=True)
            losses.total.backward()
            reached = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
            check_phase(method, phase, reached)
            learnt |= reached
        check_gradients(method, learnt | learns_later(method, batch))
    return losses


@contextmanager
def _restored(method: Method) -> Iterator[None]:
    """In training mode within; state and mode are as before afterwards, and gradients gone."""
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    training = method.training
    method.train()
    try:
        yield
    finally:
        method.zero_grad(set_to_none=True)
        method.load_state_dict(state)
        method.train(training)


def learns_later(method: Method, batch: Batch) -> set[str]:
    """The parameters that get a gradient in another epoch, where an edge that weighs 0 now weighs something then."""
    reached: set[str] = set()
    for phase in method.phases:
        edges = [edge for edge in method.edges if edge.phase == phase]
        tried = {*learning(weights_of(edges, batch))}
        # From the end: one epoch shows most schedules whole.
        for epoch in reversed(range(batch.epochs)):
            then = replace(batch, phase=phase, address=replace(batch.address, epoch=epoch))
            if (active := {*learning(weights_of(edges, then))}) <= tried:
                continue
            tried |= active
            method.zero_grad(set_to_none=True)
            method.batch_losses(then).total.backward()
            reached |= {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    return reached


def check_total(losses: Losses) -> None:
    """Every term is one number, and the sum is finite."""
    for key, term in losses.terms.items():
        if term.ndim:
            raise AttarError(f"edge {key!r}: its loss has shape {tuple(term.shape)}; reduce it to one number")
    if not losses.total.requires_grad:
        raise AttarError("nothing learns: no edge with a weight reaches a trainable parameter")
    if not torch.isfinite(losses.total):
        bad = [key for key, term in losses.terms.items() if not torch.isfinite(term)]
        raise AttarError(f"the loss of the first batch is {float(losses.total.detach()):g}; edges: {', '.join(bad)}")


def check_outputs(method: Method) -> None:
    """No edge compares logits where the task's networks put out something else."""
    output = method.task.output
    for edge in method.edges:
        for end in (edge.source, edge.target, *edge.given):
            if end.partition(".")[2] == "logits" != output:
                raise AttarError(
                    f"method {method.name!r} compares logits, and networks of this task put out {output}; choose one "
                    "that runs on it: docs/tasks/index.md lists them"
                )


def check_schedules(method: Method, epochs: int) -> None:
    """Schedules that need a number of epochs have them, and no epoch is one in which nothing learns."""
    for edge in method.edges:
        if isinstance(edge.weight, ByLayer):
            edge.weight.check(epochs)
    for phase in method.phases:
        edges = [edge for edge in method.edges if edge.phase == phase]
        for epoch in range(epochs):
            if not any(value(edge.weight, epoch, epochs) for edge in edges):
                raise AttarError(
                    f"nothing learns in epoch {epoch + 1} of {epochs}: the weights of all edges "
                    f"({', '.join(edge.key for edge in edges)}) are 0 there; give one of them a weight in every epoch"
                )


def check_ownership(method: Method) -> None:
    """Parameters of losses and regressors must be the method's own, or no optimiser would see them."""
    own = {id(parameter) for parameter in method.parameters()}
    for edge in method.edges:
        for part in (edge.loss, edge.via):
            for name, parameter in part.named_parameters() if part is not None else ():
                if id(parameter) not in own:
                    raise AttarError(
                        f"edge {edge.key!r}: parameter {name!r} of its {type(part).__name__} is not part of the "
                        "method; assign the module to an attribute in __init__"
                    )


def check_phase(method: Method, phase: str, reached: Collection[str]) -> None:
    """A phase's loss reaches only what its own optimiser steps; a stray gradient would wait for another."""
    own = {id(parameter) for parameter in method.trainable(phase)}
    stray = [name for name, parameter in method.named_parameters() if name in reached and id(parameter) not in own]
    if stray:
        raise AttarError(
            f"method {method.name!r}: phase {phase!r} sends a gradient to {stray[0]!r}, which it does not step"
        )


def check_gradients(method: Method, learnt: Collection[str]) -> None:
    """Everything trainable learns, and nothing frozen does."""
    idle = [name for name, parameter in method.named_parameters() if parameter.requires_grad and name not in learnt]
    if idle:
        more = f" and {len(idle) - 1} more" if len(idle) > 1 else ""
        auxiliary = any(part.startswith(("aux", "AuxLogits")) for part in idle[0].split("."))
        remedy = "give student.options.aux_logits=false" if auxiliary else "use it, freeze it, or leave it out"
        raise AttarError(
            f"method {method.name!r}: parameter {idle[0]!r}{more} gets no gradient from any edge; {remedy}"
        )
    for teacher in method.frozen():
        moved = [name for name, parameter in teacher.module.named_parameters() if parameter.grad is not None]
        if moved:
            raise AttarError(f"method {method.name!r}: frozen parameter {moved[0]!r} got a gradient; detach its output")
