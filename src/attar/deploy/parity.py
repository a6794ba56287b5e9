"""Whether a file computes what the network in memory computes, on real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attar.data import ImageSet, eval_batches
from attar.errors import AttarError
from attar.metrics import agreement

BATCH = 250
# Of the largest logit: far above what another order of float32 sums brings, far below what a wrong graph does.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Parity:
    """A file's logits beside the network's.

    Attributes:
        max_difference: the largest distance of two logits.
        relative: that, in parts of the network's largest absolute logit.
        same_label: the fraction of images with the same highest logit.
        top1: the fraction the file gets right.
    """

    max_difference: float
    relative: float
    same_label: float
    top1: float


def all_logits(net: nn.Module, images: ImageSet, prepare: Callable[[Tensor], Tensor]) -> Tensor:
    """(N, K) logits of every image, without gradients.

    Args:
        net: called with prepared images.
        images: the set.
        prepare: from normalised images to what the network takes.
    """
    with torch.no_grad():
        return torch.cat([net(prepare(batch.images)) for batch in eval_batches(images, BATCH)])


def compare(logits: Tensor, reference: Tensor, labels: Tensor) -> Parity:
    """Two sets of logits (N, K) for the same images.

    >>> compare(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.5, 4.0]]), torch.tensor([1]))
    Parity(max_difference=2.0, relative=0.5, same_label=1.0, top1=1.0)
    """
    difference = (logits.double() - reference.double()).abs().max().item()
    scale = reference.abs().max().item()
    return Parity(
        max_difference=difference,
        relative=difference / scale if scale else difference,
        same_label=agreement(logits, reference),
        top1=(logits.argmax(1) == labels).double().mean().item(),
    )


def check(kind: str, parity: Parity) -> None:
    """Refuse a file that computes something else.

    Raises:
        AttarError: the relative difference is above `TOLERANCE`, or no number.
    """
    if not parity.relative <= TOLERANCE:
        raise AttarError(
            f"{kind} differs from the student: a logit by {parity.max_difference:.3g}, {parity.relative:.2g} of the "
            f"largest (at most {TOLERANCE:g} is allowed), {100 * parity.same_label:.2f} % of the labels equal; "
            "the file was not kept"
        )
