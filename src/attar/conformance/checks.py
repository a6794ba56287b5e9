"""The public conformance suite: what every method promises, run on small networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from attar.batch import Batch
from attar.conformance.cases import CLASSES, Case, Networks, networks_of, outputs_of
from attar.conformance.mixed_batches import check_mixed
from attar.conformance.probe import check, check_learning
from attar.conformance.unlabelled_batches import check_unlabelled
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer, total_loss
from attar.methods.base import Method
from attar.methods.common.trial import unchanged
from attar.methods.registry import create_method, method_info
from attar.models import build
from attar.tasks import Task, create_task


def check_method(
    method: str | type[Method],
    *,
    task: str | Task = "classification",
    networks: Networks | None = None,
    **options: Any,
) -> list[str]:
    """Run the suite on a registered method, by name or class.

    Args:
        method: the name it is registered under, or the class.
        task: what is learnt: a registered name or a `Task`. Unlabelled and mixed images are checked in classification.
        networks: builds a teacher and a student that take the inputs of `task.example()`; None: those the suite has for
            the task.
        options: the method's settings, where the defaults should not be checked.

    Returns:
        The names of the checks that passed: all of them.

    Raises:
        AttarError: names each check that failed and why.

    >>> len(check_method("kd")), len(check_method("kd", task="density"))
    (12, 10)
    """
    if not isinstance(method, str) and method.name == Method.name:
        raise AttarError(f"{method.__name__} is not registered; put @attar.register(...) above the class")
    name = method if isinstance(method, str) else method.name
    info, chosen = method_info(name), create_task(task) if isinstance(task, str) else task
    build_networks = networks or networks_of(task if isinstance(task, str) else type(task).__name__.lower(), name)

    def make() -> Method:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            large, student = build_networks()
            teacher = large if info.takes_teacher else None
            made = create_method(name, teacher=teacher, student=student, task=chosen, **copy.deepcopy(options))
            made.setup(labels)
            return made

    case = Case(make, chosen, build_networks)
    # The labels are drawn like those of the batches.
    _, labels = case.rows(8, torch.Generator().manual_seed(0))
    failures, passed = [], []
    checks = CHECKS if case.class_numbers else [one for one in CHECKS if one not in OF_CLASS_NUMBERS]
    for one in checks:
        try:
            one(case)
        except Exception as error:  # a method may fail in any way; every failure is reported
            failures.append(f"{one.__name__}: {error}")
        else:
            passed.append(one.__name__)
    if failures:
        raise AttarError(f"method {name!r} fails {len(failures)} of {len(checks)} checks:\n  " + "\n  ".join(failures))
    return passed


def first_batch(case: Case) -> None:
    """The check every run starts with."""
    check(case.method, case.batch())


def odd_batches(case: Case) -> None:
    """Batches of odd size work."""
    for size in (2, 7):
        check(case.method, case.batch(size))


def sources_do_not_learn(case: Case) -> None:
    """The source of an edge with learns="target" gets no gradient from it."""
    method = case.method
    with unchanged(method.train()):
        for phase in method.phases:
            batch = replace(case.batch(), phase=phase)
            edges = [edge for edge in method.edges if edge.phase == phase]
            _hold_sources(edges, method.knowledge(batch))


def _hold_sources(edges: list[Transfer], knowledge: Knowledge) -> None:
    for edge in edges:
        source = knowledge[edge.source]
        if edge.learns == "both" or not isinstance(source, torch.Tensor) or not source.requires_grad:
            continue
        loss = edge(knowledge)
        if not loss.requires_grad:
            raise AssertionError(f"edge {edge.key!r} compares with {edge.target!r}, which cannot learn")
        (gradient,) = torch.autograd.grad(loss, source, allow_unused=True, retain_graph=True)
        # A network that learns from its own deeper part may reach the source through the target's graph.
        if gradient is not None and gradient.abs().sum() > 0 and not _feeds(source, knowledge[edge.target]):
            raise AssertionError(f"edge {edge.key!r} sends a gradient to its source")


def teachers_stay(case: Case) -> None:
    """Three optimiser steps with momentum and decay leave every frozen parameter and buffer as it was."""
    method = case.make().train()
    before = [copy.deepcopy(teacher.module.state_dict()) for teacher in method.frozen()]
    train_steps(method, case, 3)
    for teacher, state in zip(method.frozen(), before, strict=True):
        moved = [name for name, tensor in teacher.module.state_dict().items() if not torch.equal(tensor, state[name])]
        if moved:
            raise AssertionError(f"frozen {moved[0]!r} moved")


def learns(case: Case) -> None:
    """The loss of one batch falls when it is trained on, while what the method remembers stays as it was."""
    for rate in RATES:
        losses = train_steps(case.make().train(), case, STEPS, rate, until_falling=True)
        if min(losses[-3:]) < losses[0]:
            return
    raise AssertionError(
        f"the loss went from {losses[0]:.4f} to {losses[-1]:.4f} in {STEPS} steps on one batch, at a rate of {rate}"
    )


def global_randomness_untouched(case: Case) -> None:
    """A forward pass draws nothing from the global generator, and two passes at one address agree."""
    method, batch = case.method.eval(), case.batch()
    edges, state = method.edges, torch.get_rng_state()
    with unchanged(method), torch.no_grad():
        totals = [total_loss(method.knowledge(batch), edges).total for _ in range(2)]
    if not torch.equal(torch.get_rng_state(), state):
        raise AssertionError("run draws from torch's global generator; use batch.rng(purpose)")
    if not torch.equal(*totals):
        raise AssertionError(f"two passes over one batch differ: {float(totals[0])} and {float(totals[1])}")


def half_precision(case: Case) -> None:
    """bfloat16 autocast gives finite losses and gradients, near the float32 ones."""
    method, batch = case.method.train(), case.batch()
    with unchanged(method):
        full = float(method.batch_losses(batch).total.detach())
    with unchanged(method):
        with torch.autocast("cpu", torch.bfloat16):
            total = method.batch_losses(batch).total
        total.backward()
        gradients = [p.grad for p in method.trainable() if p.grad is not None]
        method.zero_grad()
    if not all(torch.isfinite(one).all() for one in gradients):
        raise AssertionError("a gradient is not finite under bfloat16")
    half = float(total.detach())
    if abs(half - full) > 0.1 * abs(full) + 0.05:
        raise AssertionError(f"the loss is {half:.4f} under bfloat16, {full:.4f} in float32")


def state_round_trip(case: Case) -> None:
    """A state dict restores a method exactly."""
    method = case.make().train()
    train_steps(method, case, 2)
    other = case.make()
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    with torch.no_grad():
        totals = [one.eval().batch_losses(case.batch()).total for one in (method, other)]
    if not torch.equal(*totals):
        raise AssertionError(f"the restored method's loss differs: {float(totals[0])} and {float(totals[1])}")


def deploys(case: Case) -> None:
    """What is deployed maps inputs to outputs, rebuilds from its spec, and shares nothing with a frozen teacher."""
    method, batch = case.method, case.batch()
    expected = case.output_shape(batch)
    frozen = {id(parameter) for teacher in method.frozen() for parameter in teacher.module.parameters()}
    for name, net in {"student": method.deployed(), **method.also_deployed()}.items():
        logits = outputs_of(net.eval(), batch.inputs)
        if logits.shape != expected:
            raise AssertionError(f"{name} gives {tuple(logits.shape)}, not {expected}")
        if any(id(parameter) in frozen for parameter in net.parameters()):
            raise AssertionError(f"{name} holds a frozen teacher's own parameters; copy what it needs")
        _rebuilds(name, net, batch)


def unlabelled_rows(case: Case) -> None:
    """Rows without a label teach along the edges that need none, or are refused before the first step."""
    batch = case.batch()
    labels = batch.labels.clone()
    labels[5:] = -1
    _learns_or_refused(case, replace(batch, labels=labels, labelled=5), check_unlabelled)


def mixed_images(case: Case) -> None:
    """Labels that are shares of two classes teach as class numbers do, or are refused before the first step."""
    batch = case.batch()
    labels = torch.nn.functional.one_hot(batch.labels, CLASSES).float()
    _learns_or_refused(
        case, replace(batch, labels=0.75 * labels + 0.25 * labels.roll(1, dims=0), mixed=True), check_mixed
    )


def _learns_or_refused(case: Case, batch: Batch, refuse: Callable[[Method, Batch], None]) -> None:
    method = case.method.train()
    try:
        refuse(method, batch)
    except AttarError:
        return
    check_learning(method, batch)


def draws(case: Case) -> None:
    """The graph can be drawn and every row of the matrix that learns has a weight."""
    graph = case.method.graph
    if "graph LR" not in graph.mermaid():
        raise AssertionError("the graph has no Mermaid text")
    names, matrix = graph.matrix(epoch=1, epochs=2)
    if len(matrix) != len(names) or not any(map(any, matrix)):
        raise AssertionError("no edge teaches")


CHECKS = (
    first_batch,
    odd_batches,
    sources_do_not_learn,
    teachers_stay,
    learns,
    global_randomness_untouched,
    half_precision,
    state_round_trip,
    deploys,
    draws,
    unlabelled_rows,
    mixed_images,
)
OF_CLASS_NUMBERS = (unlabelled_rows, mixed_images)
# Losses that are sums over maps have gradients whose steps would leap; those of classifiers stay far below.
LARGEST_GRADIENT = 100.0
# In which the loss must fall.
STEPS = 12
# Losses of large weights overshoot at the first.
RATES = (5e-3, 5e-4, 5e-5)


def train_steps(
    method: Method, case: Case, steps: int, rate: float = RATES[0], until_falling: bool = False
) -> list[float]:
    """A few SGD steps on one batch.

    Args:
        until_falling: stop when three losses in a row are below the first. Buffers are put back before each step, so
            that all losses compare with the same memory.

    Returns:
        The losses before each step.
    """
    learners = {
        phase: torch.optim.SGD(method.trainable(phase), rate, 0.9, weight_decay=5e-4) for phase in method.phases
    }
    remembered = {name: buffer.clone() for name, buffer in method.named_buffers()} if until_falling else {}
    losses: list[float] = []
    for _ in range(steps):
        for phase, learner in learners.items():
            for name, buffer in remembered.items():
                method.get_buffer(name).copy_(buffer)
            total = method.batch_losses(replace(case.batch(), phase=phase)).total
            method.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(method.trainable(phase), LARGEST_GRADIENT)
            learner.step()
            if phase == method.phases[0]:
                losses.append(float(total.detach()))
        if until_falling and len(losses) > 3 and max(losses[-3:]) < losses[0]:
            break
    return losses


def _feeds(source: torch.Tensor, target: object) -> bool:
    """Whether the target was computed from the source."""
    if not isinstance(target, torch.Tensor):
        return False
    (gradient,) = torch.autograd.grad(target.sum(), source, allow_unused=True, retain_graph=True)
    return gradient is not None


def _rebuilds(name: str, net: nn.Module, batch: Batch) -> None:
    """Spec and state dict together are the network."""
    spec = getattr(net, "spec", None)
    if spec is None:
        raise AssertionError(f"{name} has no spec; it could not be loaded again")
    again = build(spec)
    again.load_state_dict(net.state_dict())
    if not torch.equal(outputs_of(again.eval(), batch.inputs), outputs_of(net, batch.inputs)):
        raise AssertionError(f"{name}, rebuilt from its spec, has other outputs")
