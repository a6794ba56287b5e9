"""Structured knowledge transfer (SKT, Liu et al., arXiv:2003.10120): relations within and between a network's maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_same_shape
from attar.losses.loss import Loss
from attar.losses.numerics import product, widen

Maps = tuple[Tensor, ...]
_SMALL = 1e-5


def intra_layer(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """1 - cosine over the channels of every pixel, summed over pixels and maps, averaged over the batch.

    Deviates: the authors train on one image at a time and sum; the mean over the batch is the same there.

    Args:
        student_maps: (B, C, H, W) each, brought to the teacher's channels.
        teacher_maps: as many, of the same shapes.

    Raises:
        AttarError: the numbers of maps or their shapes differ.

    >>> one = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    >>> intra_layer([one, one], [3 * one, one.flip(1)]).item()
    1.0
    """
    _check(student_maps, teacher_maps)
    terms = [
        (1 - F.cosine_similarity(widen(learner), widen(source), dim=1)).flatten(1).sum(1)
        for learner, source in zip(student_maps, teacher_maps, strict=True)
    ]
    return torch.stack(terms).sum(0).mean()


def inter_layer(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """The squared difference between the Gram matrices of all pairs of maps, averaged over the batch.

    G_ij = X_i X_j^T / (H W) with each X the instance-normalised map as (C, H W). Larger maps are max-pooled to the
    smallest one's size first, in ceil mode, as the authors do it.

    Args:
        student_maps: (B, C, H, W) each.
        teacher_maps: as many, of the same shapes.

    Raises:
        AttarError: the numbers of maps or their shapes differ.

    >>> maps = [torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)]
    >>> inter_layer(maps, [3 * one for one in maps]).item() < 1e-6
    True
    """
    _check(student_maps, teacher_maps)
    learner, source = (_normalised(maps) for maps in (student_maps, teacher_maps))
    total = learner[0].new_zeros(())
    for i, j in combinations(range(len(learner)), 2):
        difference = gram(learner[i], learner[j]) - gram(source[i], source[j])
        total = total + difference.square().sum((1, 2)).mean()
    return total


def gram(first: Tensor, second: Tensor) -> Tensor:
    """(B, C, H W) and (B, D, H W) to their inner products over the pixels (B, C, D), divided by H W."""
    return product(first, second.mT) / first.shape[2]


def _normalised(maps: Sequence[Tensor]) -> list[Tensor]:
    """Each map at the smallest one's size, with mean 0 and deviation 1 in every channel: (B, C, H W)."""
    least = min((one.shape[2:] for one in maps), key=prod)
    found = []
    for one in maps:
        rows = _pooled(widen(one), least).flatten(2)
        spread = rows.var(2, correction=0, keepdim=True)
        found.append((rows - rows.mean(2, keepdim=True)) * (spread + _SMALL).rsqrt())
    return found


def _pooled(maps: Tensor, size: torch.Size) -> Tensor:
    """The largest values of equal cells; where sizes were rounded down on the way, cells that overlap by a row."""
    factors = [max(round(old / new), 1) for old, new in zip(maps.shape[2:], size, strict=True)]
    pooled = F.max_pool2d(maps, factors, ceil_mode=True) if max(factors) > 1 else maps
    return pooled if pooled.shape[2:] == size else F.adaptive_max_pool2d(maps, size)


def _check(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> None:
    if len(student_maps) != len(teacher_maps):
        raise AttarError(f"the learner has {len(student_maps)} maps, the source {len(teacher_maps)}; compare as many")
    for learner, source in zip(student_maps, teacher_maps, strict=True):
        check_same_shape(learner, source, "bring the learner's maps to the source's channels")


@dataclass(eq=False, repr=False)
class IntraLayer(Loss):
    """`intra_layer` as a module: loss(student_maps, teacher_maps), tuples of maps."""

    def forward(self, learner: Maps, source: Maps) -> Tensor:
        return intra_layer(learner, source)


@dataclass(eq=False, repr=False)
class InterLayer(Loss):
    """`inter_layer` as a module: loss(student_maps, teacher_maps), tuples of maps."""

    def forward(self, learner: Maps, source: Maps) -> Tensor:
        return inter_layer(learner, source)
