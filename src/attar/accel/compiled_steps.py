"""A method's losses through torch.compile, where they agree and are faster."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from statistics import median
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from attar.accel.fused_norm import batch_norm
from attar.accel.norm_override import norms_by
from attar.accel.runtime import Runtime, step_seconds
from attar.batch import Batch
from attar.errors import first_line
from attar.knowledge import Knowledge, Losses, epoch_of, learning, terms_of, weighted, weights_of
from attar.methods import Method
from attar.methods.common.trial import unchanged

# Compiling takes from half a minute to minutes; unasked, it is tried where the steps would take longer than this
# (seconds), on a processor much longer, because it gains less there.
WORTH_COMPILING = 300.0
WORTH_COMPILING_ON_CPU = 3600.0
# Unasked, it must be so many times as fast, in the middle one of so many comparisons.
CLEARLY, COMPARISONS = 1.1, 3
# How near its losses and gradients must be to those of the plain step in float32 (difference over size): rounding
# passes, a wrong formula does not. In bfloat16 the plain step is itself farther off (a fifth for an untrained resnet20)
# and sets the limit.
NEAR, AS_NEAR = 0.01, 1.25
# Tracing looks at the gradient of whatever it is given, and warns of what it leaves to Python.
HARMLESS = ("The .grad attribute of a Tensor that is not a leaf", "Dynamo does not know how to trace")


@runtime_checkable
class LeavesGraphs(Protocol):
    """Part of a method that torch.compile must not look into."""

    def leave_graphs(self) -> None: ...


class Compiled:
    """Computes what `method.batch_losses` does, its networks and losses compiled.

    Frozen networks stay outside, with their engines and caches, and so do the weights of the edges: an epoch that
    changes one compiles nothing anew. So does every part of the method that has `leave_graphs`. On a processor batch
    norms are computed by a function that can be fused.

    Args:
        method: any method; the parts that cannot be traced, draws by address say, run as they are.
        cuda_graphs: whether one launch on the GPU replays a whole pass. Each pass then overwrites what the one before
            computed, gradients too: for methods of one phase, without accumulated batches.
    """

    def __init__(self, method: Method, cuda_graphs: bool = False) -> None:
        self.method, self.cuda_graphs = method, cuda_graphs
        for part in (*vars(method).values(), *method.frozen(), *method.modules()):
            if isinstance(part, LeavesGraphs):
                part.leave_graphs()
        # What torch keeps of earlier trainings counts against its limit of variants.
        torch.compiler.reset()
        mode = "reduce-overhead" if cuda_graphs else None
        self._compiled = torch.compile(self._pass, dynamic=False, mode=mode)

    def __call__(self, batch: Batch) -> Losses:
        """The losses of one batch."""
        edges = [edge for edge in self.method.edges if edge.phase == batch.phase]
        weights = weights_of(edges, batch)
        if self.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        with warnings.catch_warnings():
            for harmless in HARMLESS:
                warnings.filterwarnings("ignore", harmless)
            with self.method.weighing(batch):
                knowledge, terms = self._compiled(batch, learning(weights), epoch_of(batch))
        if self.cuda_graphs:
            # Some of them are looked at after the next pass.
            terms = {key: term.clone() for key, term in terms.items()}
        return weighted(edges, terms, weights, knowledge)

    def _pass(self, batch: Batch, learn: tuple[str, ...], epoch: Tensor) -> tuple[Knowledge, dict[str, Tensor]]:
        on_cpu = batch.device.type == "cpu"
        with norms_by(batch_norm) if on_cpu else nullcontext():
            # As a tensor: a number would be compiled anew in every epoch.
            knowledge = self.method.run(batch).add("epoch", epoch)
            edges = [edge for edge in self.method.edges if edge.phase == batch.phase]
            return knowledge, terms_of(edges, knowledge, learn)


def compiled(method: Method, runtime: Runtime, accumulate: int) -> Compiled:
    """A method's losses, compiled as its device, its phases and the batches of a step allow."""
    return Compiled(method, runtime.device.type == "cuda" and accumulate == 1 and len(method.phases) == 1)


def choose_compiled(
    method: Method, batch: Batch, runtime: Runtime, wanted: bool | None, steps: int, accumulate: int
) -> tuple[bool, str]:
    """Whether to compile a method's losses, found by trying; the method is as before afterwards.

    Args:
        method: as it will be trained.
        batch: as training will show it.
        runtime: its device and precision.
        wanted: True: wherever the losses agree; False: never; None: where it is clearly faster in a run that is long
            enough to pay for it.
        steps: how many the run has.
        accumulate: batches of a step.

    Returns:
        The choice, and a line for the log, empty where nothing was tried.
    """
    if wanted is False:
        return False, ""
    worth = WORTH_COMPILING if runtime.device.type == "cuda" else WORTH_COMPILING_ON_CPU
    try:
        usual = step_seconds(method, method.batch_losses, batch, runtime)
        if wanted is None and usual * steps < worth:
            return False, ""
        losses_of = compiled(method, runtime, accumulate)
        error, usual_error = errors(method, losses_of, batch, runtime)
        gain = times_as_fast(method, losses_of, batch, runtime)
    except Exception as failure:  # whatever a compiler trips over: the run goes on without it
        return False, f"steps as they are: torch.compile does not go with this method here ({first_line(failure)})"
    finally:
        method.zero_grad(set_to_none=True)
    most = max(NEAR, AS_NEAR * usual_error)
    found = f"{gain:.2f} times the speed, losses and gradients {100 * error:.2g} % from float32"
    if usual_error:
        found += f", plain ones {100 * usual_error:.2g} %"
    if not error <= most:
        return False, f"steps as they are: compiled, {found} (not used: at most {100 * most:.2g} %)"
    if wanted is None and gain < CLEARLY:
        return False, f"steps as they are: compiled, {found}"
    return True, f"compiled steps: {found}"


def times_as_fast(method: Method, losses_of: Callable[[Batch], Losses], batch: Batch, runtime: Runtime) -> float:
    """Another way to compute a method's losses against the plain one, interleaved: a machine's speed may change."""
    ways = (method.batch_losses, losses_of)
    pairs = [[step_seconds(method, way, batch, runtime) for way in ways] for _ in range(COMPARISONS)]
    return median(plain / other for plain, other in pairs)


def errors(method: Method, losses_of: Callable[[Batch], Losses], batch: Batch, runtime: Runtime) -> tuple[float, float]:
    """How far from the plain step in float32 another way to compute a method's losses is, and the plain one."""
    exact = terms_and_gradient(method, method.batch_losses, batch, replace(runtime, precision="float32"))
    usual = terms_and_gradient(method, method.batch_losses, batch, runtime)
    return apart(terms_and_gradient(method, losses_of, batch, runtime), exact), apart(usual, exact)


def terms_and_gradient(
    method: Method, losses_of: Callable[[Batch], Losses], batch: Batch, runtime: Runtime
) -> list[Tensor]:
    """Every term and the whole gradient of each phase, from the same state; the method is as before afterwards."""
    found, learners = [], [p for p in method.parameters() if p.requires_grad]
    for phase in method.phases:
        with unchanged(method):
            with runtime.computing():
                losses = losses_of(replace(batch, phase=phase))
            losses.total.backward()
        gradient = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in learners]
        found += [term.detach().float().clone() for term in losses.terms.values()] + [torch.cat(gradient)]
        method.zero_grad(set_to_none=True)
    return found


def apart(values: list[Tensor], true: list[Tensor]) -> float:
    """The largest relative difference of a tensor.

    >>> apart([torch.tensor([3.0, 3.0])], [torch.tensor([3.0, 4.0])])
    0.20000000298023224
    """
    each = [(one - other).norm() / other.norm().clamp_min(1e-12) for one, other in zip(values, true, strict=True)]
    return float(torch.stack(each).max())
