"""RKD: the student keeps the distances and angles between images that the teacher sees."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.losses import RKDAngle, RKDDistance
from attar.methods.base import Offline
from attar.methods.registry import register


@register(
    "rkd",
    title="Relational Knowledge Distillation",
    paper="arXiv:1904.05068",
    year=2019,
    family="offline",
    needs=("pooled",),
)
class RKD(Offline):
    """Relational Knowledge Distillation (Park et al., CVPR 2019), on the pooled features.

    L = ce * CE + distance * Huber(distances) + angle * Huber(angles). The features' widths may differ.

    Args:
        teacher: a trained network.
        student: the network to train.
        distance: weight of the pairwise distances (25).
        angle: weight of the angles of all triplets (50).
        ce: weight of the labels (1).
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, *, distance: float = 25.0, angle: float = 50.0, ce: float = 1.0
    ) -> None:
        super().__init__(teacher, student)
        self.distance, self.angle, self.ce = distance, angle, ce

    def transfers(self) -> Iterable[Transfer]:
        ends = ("teacher.pooled", "student.pooled")
        yield self.label_edge(weight=self.ce)
        yield Transfer(*ends, RKDDistance(), weight=self.distance, name="teacher.pooled->student.pooled:distance")
        yield Transfer(*ends, RKDAngle(), weight=self.angle, name="teacher.pooled->student.pooled:angle")
