"""UNIC's loss: the features of several teachers, of which easy ones are dropped at random for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.losses.checks import check_same_shape
from attar.losses.loss import Loss
from attar.losses.numerics import widen


def feature_distance(prediction: Tensor, target: Tensor, cosine: float = 0.5, smooth: float = 0.5) -> Tensor:
    """(B,): cosine * (1 - cos) + smooth * smooth L1 of each image's features, the mean over space.

    The cosine is that of the channels; smooth L1 (beta 1) is the mean over them.

    Args:
        prediction: (B, D) or (B, D, H, W).
        target: of the same shape.
        cosine: weight of the first term (0.5).
        smooth: weight of the second (0.5).

    Raises:
        AttarError: the shapes differ.

    >>> feature_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])).tolist()
    [1.0]
    """
    check_same_shape(prediction, target, "bring the prediction to the target's size")
    own, theirs = (widen(one).flatten(2) if one.ndim > 2 else widen(one)[:, :, None] for one in (prediction, target))
    gap = F.smooth_l1_loss(own, theirs, reduction="none").mean(1)
    return (cosine * (1 - F.cosine_similarity(own, theirs, dim=1)) + smooth * gap).mean(1)


@dataclass(eq=False, repr=False)
class KeptTeachers(Loss):
    """The mean of `feature_distance` over the images and the teachers that are kept: loss(predictions, targets, draws).

    For each image the teacher at the largest distance is kept, and each other one unless its draw is below `drop`.
    `draws` (B, teachers) are uniform in [0, 1). With several `kinds` of features, predictions and targets are those of
    all teachers of the first kind, then of the next, and a teacher's distance is the mean over the kinds.

    >>> theirs = (torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    >>> loss, own = KeptTeachers(drop=0.5), (torch.tensor([[1.0, 0.0]]),) * 2
    >>> [loss(own, theirs, torch.tensor([[draw, draw]])).item() for draw in (0.4, 0.6)]
    [1.0, 0.5]
    """

    drop: float = 0.5
    cosine: float = 0.5
    smooth: float = 0.5
    kinds: int = 1
    whole_batch: ClassVar[bool] = True  # images with more teachers weigh more

    def forward(self, learner: Sequence[Tensor], source: Sequence[Tensor], draws: Tensor) -> Tensor:
        pairs = zip(learner, source, strict=True)
        rows = torch.stack([feature_distance(own, theirs, self.cosine, self.smooth) for own, theirs in pairs])
        each = rows.unflatten(0, (self.kinds, -1)).mean(0)
        hardest = F.one_hot(each.argmax(0), len(each)).mT.bool()
        kept = (hardest | (draws.mT >= self.drop)).to(each)
        return (kept * each).sum() / kept.sum()
