"""Whether a file computes what the network in memory computes, on real samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.data import Samples, batches_of
from attar.errors import AttarError
from attar.metrics import Metrics
from attar.metrics.accuracy import output_of

# Of the largest output: far above what another order of float32 sums brings, far below what a wrong graph does.
TOLERANCE = 1e-3
# Samples whose outputs are compared at a time, in float64.
PART = 250


@dataclass(frozen=True)
class Parity:
    """A file's outputs beside the network's.

    Attributes:
        max_difference: the largest distance of two outputs.
        relative: that, in parts of the network's largest absolute output.
        same_label: the fraction of entries (images, tokens) with the same highest logit; None where outputs are none.
        score: the task's primary measure of the file.
    """

    max_difference: float
    relative: float
    same_label: float | None
    score: float


def measured(
    net: nn.Module, samples: Samples, prepare: Callable[[Any], Inputs], metrics: Metrics
) -> tuple[Tensor, float]:
    """(N, ...) outputs for every sample, without gradients, and the primary measure.

    Args:
        net: called with prepared inputs.
        samples: the set.
        prepare: from the set's inputs to what the network takes.
        metrics: of the task; its sums grow.
    """
    outputs = []
    with torch.no_grad():
        for batch in batches_of(samples):
            outputs.append(output_of(net, prepare(batch.inputs)))
            metrics.update(outputs[-1], batch)
    return torch.cat(outputs), metrics.compute()[metrics.primary.name]


def compare(found: Tensor, reference: Tensor, score: float, logits: bool = True) -> Parity:
    """Two sets of outputs for the same samples.

    Args:
        found: the file's.
        reference: the network's.
        score: the file's primary measure.
        logits: whether they are logits of classes, (N, K) or (N, L, K).

    >>> compare(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.5, 4.0]]), score=1.0)
    Parity(max_difference=2.0, relative=0.5, same_label=1.0, score=1.0)
    """
    difference = max(
        (one.double() - other.double()).abs().max().item()
        for one, other in zip(found.split(PART), reference.split(PART), strict=True)
    )
    scale = reference.abs().max().item()
    same = (found.argmax(-1) == reference.argmax(-1)).double().mean().item() if logits else None
    return Parity(difference, difference / scale if scale else difference, same, score)


def check(kind: str, parity: Parity, tolerance: float | None = None) -> None:
    """Refuse a file that computes something else.

    Args:
        kind: the format.
        parity: its outputs beside the network's.
        tolerance: the largest relative difference that passes; None: `TOLERANCE`.

    Raises:
        AttarError: the relative difference is above it, or no number.
    """
    allowed = TOLERANCE if tolerance is None else tolerance
    if not parity.relative <= allowed:
        labels = "" if parity.same_label is None else f", {100 * parity.same_label:.2f} % of the labels equal"
        raise AttarError(
            f"{kind} differs from the student: an output by {parity.max_difference:.3g}, {parity.relative:.2g} of the "
            f"largest (at most {allowed:g} is allowed){labels}; the file was not kept"
        )
