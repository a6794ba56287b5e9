"""Distances between tokens of two maps: ScaleKD."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from attar.losses.checks import check_same_shape
from attar.losses.loss import Loss
from attar.losses.numerics import widen


def spatial_tokens(student_map: Tensor, teacher_map: Tensor, centred: bool = False) -> Tensor:
    """The squared distance of maps whose channels are scaled to length 1 at each position, summed, over B (ScaleKD).

    Args:
        student_map: (B, C, H, W).
        teacher_map: (B, C, H, W).
        centred: whether each channel loses its mean over space first. The authors zero the first bin of a discrete
            cosine transform, which is the same.

    >>> import torch
    >>> F_s = torch.arange(1.0, 17.0).reshape(2, 2, 2, 2) / 10
    >>> F_t = torch.tensor([1.0, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2]).reshape(2, 2, 2, 2) / 4
    >>> [round(w * spatial_tokens(F_s, F_t, centred).item(), 4) for w, centred in ((0.08, False), (0.06, True))]
    [0.1483, 0.3583]
    """
    check_same_shape(student_map, teacher_map)
    maps = [widen(one) for one in (student_map, teacher_map)]
    if centred:
        maps = [one - one.mean((2, 3), keepdim=True) for one in maps]
    own, theirs = (F.normalize(one, dim=1) for one in maps)
    return (own - theirs).square().sum() / len(own)


@dataclass(eq=False, repr=False)
class SpatialTokens(Loss):
    """`spatial_tokens` as a module: loss(student_map, teacher_map)."""

    centred: bool = False

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return spatial_tokens(learner, source, self.centred)
