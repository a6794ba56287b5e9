"""What must stay true while a run trains, looked at where it costs nothing: at a few steps and at each epoch's end."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Losses, Transfer
from attar.losses import CrossEntropy
from attar.methods import Method
from attar.methods.common.own_loop import layers_in_eval_mode
from attar.methods.common.trial import unchanged
from attar.schedules import value

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Three equal values of a loss over three different batches are no accident.
LOOKS_TO_JUDGE = 3
# A network has forgotten its classes when its loss on labels began below one share of chance and is above the other.
# Random weights begin at chance, and their first epochs may swing between the two.
LEARNT, FORGOTTEN = 0.6, 0.9


class Invariants:
    """The promises of a training, for every method.

    Errors, because every number of the run would be wrong: a frozen network that changed or left eval mode, a student
    that trains in eval mode, a source that learns from its own edge. Warnings, because the run may still be what was
    meant: a parameter that has learnt nothing once every edge has taught for an epoch (a branch may be dead on
    purpose), an edge whose loss never changes (a margin may be met by every image), a network that came with what it
    had learnt and is at chance.

    Args:
        method: what trains, as it starts.
        epochs: of the training.
        warn: where a warning goes, one line each.
    """

    def __init__(self, method: Method, epochs: int, warn: Callable[[str], None]) -> None:
        self.method, self.warn = method, warn
        self._all_teach = max((first_epoch(edge, epochs) for edge in method.edges), default=0)
        self._frozen = [state_checksums(one.module) for one in method.frozen()]
        self._named = {name: p for name, p in method.named_parameters() if p.requires_grad}
        self._start: Tensor | None = None
        self._reached: Tensor | None = None
        self._terms: dict[str, list[Tensor]] = {}
        self._classes: dict[str, int] = {}
        self._first: dict[str, float] = {}
        self._said: set[str] = set()

    def start_epoch(self, epoch: int) -> None:
        """Forget the losses of the epoch before; in the first ones parameters must show that they learn."""
        self._terms = {}
        if epoch > self._all_teach:
            self._start = self._reached = None
        if epoch == 0:
            self._start = checksums(list(self._named.values()))
            self._reached = torch.zeros_like(self._start, dtype=torch.bool)

    def saw(self, losses: Losses, step: int, phase: str) -> None:
        """Look at the losses and gradients of steps 0, 1, 3, 7, 15, ...: more often teaches nothing more."""
        if step & (step + 1):
            return
        for key, term in losses.terms.items():
            if losses.weights[key]:
                self._terms.setdefault(key, []).append(term.detach())
        if self._reached is not None:
            gradients = [p.grad for p in self._named.values()]
            zero = torch.zeros((), device=self._reached.device)
            most = [zero if g is None or not g.numel() else g.detach().abs().max().float() for g in gradients]
            self._reached |= torch.stack(most) > 0
            if step == 0:
                self._classes |= classes_of(self.method, losses, phase)
                check_sources(self.method, losses.knowledge.batch, phase)

    def end_epoch(self, epoch: int) -> None:
        """Hold every promise; waits for the device once.

        Raises:
            AttarError: a frozen network moved or is in training mode, or the student is not.
        """
        check_frozen(self.method, self._frozen)
        check_modes(self.method)
        for key, seen in self._terms.items():
            values = {float(value) for value in seen}
            if len(seen) >= LOOKS_TO_JUDGE and len(values) == 1:
                self._warn(
                    key,
                    f"the loss of edge {key!r} was {values.pop():g} at every look of epoch {epoch + 1}: it teaches "
                    "nothing; check what it compares, or leave it out",
                )
        self._check_forgetting(epoch)
        if self._start is None or self._reached is None or not self._terms or epoch != self._all_teach:
            return
        moved = checksums(list(self._named.values())) != self._start
        idle = [name for name, learns in zip(self._named, (self._reached & moved).tolist(), strict=True) if not learns]
        if idle:
            more = f" and {len(idle) - 1} more" if len(idle) > 1 else ""
            when = f"{epoch + 1} epochs" if epoch else "the first epoch"
            self._warn(
                idle[0],
                f"parameter {idle[0]!r}{more} learnt nothing in {when}: its gradient is zero or it did not move; "
                "check the edges that should reach it, or freeze it",
            )

    def _check_forgetting(self, epoch: int) -> None:
        """Whether a network that came with what it had learnt is at chance, as an adapting teacher may be."""
        for key, classes in self._classes.items():
            values = [float(value) for value in self._terms.get(key, [])]
            if epoch == 0 and values:
                self._first[key] = values[0]
            chance, first = math.log(classes), self._first.get(key, math.inf)
            if values and first < LEARNT * chance and values[-1] > FORGOTTEN * chance:
                network = key.removeprefix("labels->").partition(".")[0]
                self._warn(
                    f"{key} forgotten",
                    f"the loss of {network!r} on its labels rose from {first:.2f} to {values[-1]:.2f}, and chance is "
                    f"{chance:.2f}: it has lost what it had learnt; lower its learning rate, or hold its weights",
                )

    def _warn(self, about: str, line: str) -> None:
        """Each warning once."""
        if about not in self._said:
            self._said.add(about)
            self.warn(f"warning: {line}")


def first_epoch(edge: Transfer, epochs: int) -> int:
    """The first epoch, from 0, in which an edge has a weight; 0 where it never has one."""
    return next((epoch for epoch in range(epochs) if value(edge.weight, epoch, epochs)), 0)


def classes_of(method: Method, losses: Losses, phase: str) -> dict[str, int]:
    """How many classes each cross-entropy on labels tells apart in a phase, by the edge's key."""
    edges = [one for one in method.edges if one.source == "labels" and one.phase == phase and one.key in losses.terms]
    outputs = {one.key: losses.knowledge[one.target] for one in edges if isinstance(one.loss, CrossEntropy)}
    return {key: output.shape[1] for key, output in outputs.items() if isinstance(output, Tensor)}


def state_checksums(network: nn.Module) -> Tensor:
    """One number for each tensor of a network's state; a single changed bit changes it."""
    return checksums(list(network.state_dict().values()))


def checksums(tensors: list[Tensor]) -> Tensor:
    """(N,) sums of the tensors' bits read as integers, on their device.

    >>> before, after = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0000002])
    >>> bool(checksums([before]) == checksums([before.clone()])), bool(checksums([before, after]).diff() == 0)
    (True, False)
    """
    sums = [
        t.detach().contiguous().reshape(-1).view(INTEGERS[t.element_size()]).sum(dtype=torch.int64) for t in tensors
    ]
    return torch.stack(sums) if sums else torch.zeros(0, dtype=torch.int64)


def check_frozen(method: Method, before: list[Tensor]) -> None:
    """A frozen network is, bit for bit, the one the run started with, and in eval mode.

    Raises:
        AttarError: one is not.
    """
    for teacher, old in zip(method.frozen(), before, strict=True):
        names, same = teacher.module.state_dict().keys(), (state_checksums(teacher.module) == old).tolist()
        moved = [name for name, kept in zip(names, same, strict=True) if not kept]
        if moved:
            raise AttarError(
                f"method {method.name!r} changed {moved[0]!r} of a frozen network: the teacher is no longer the one "
                "that was given; train a copy of it instead"
            )
        if any(module.training for module in teacher.module.modules()):
            raise AttarError(
                f"method {method.name!r} left a frozen network in training mode: its outputs are not those it had "
                "measured; call it only through its Frozen wrapper"
            )


def check_modes(method: Method) -> None:
    """The deployed network trains in training mode: its batch norm learns and its dropout drops.

    Raises:
        AttarError: it does not; parts that the method freezes are its own business.
    """
    if stuck := layers_in_eval_mode(method.deployed()):
        raise AttarError(
            f"method {method.name!r} trains its student in eval mode ({stuck[0]!r} and {len(stuck) - 1} more): batch "
            "norm and dropout stand still; remove the eval() call from its run"
        )


def check_sources(method: Method, batch: Batch, phase: str) -> None:
    """No edge sends a gradient to its own source, unless both of its ends learn.

    `Transfer` detaches its source, so only edges of a class of their own are run; the method is as before afterwards.

    Raises:
        AttarError: one does.
    """
    own = [e for e in method.edges if type(e).__call__ is not Transfer.__call__ and e.phase == phase]
    own = [edge for edge in own if edge.learns == "target"]
    if not own:
        return
    with unchanged(method), torch.random.fork_rng(devices=[]), torch.enable_grad():
        knowledge = method.knowledge(batch)
        for edge in own:
            source, target = knowledge[edge.source], knowledge[edge.target]
            feeds = _reaches(target, source)  # a network that learns from its own deeper part
            if not feeds and _reaches(edge(knowledge), source):
                raise AttarError(f"edge {edge.key!r} sends a gradient to its source; detach it, or give learns='both'")


def _reaches(what: object, source: object) -> bool:
    """Whether a gradient of `what` gets to `source`."""
    if not isinstance(what, Tensor) or not isinstance(source, Tensor):
        return False
    if not what.requires_grad or not source.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(what.sum(), source, allow_unused=True, retain_graph=True)
    return gradient is not None and bool((gradient != 0).any())
