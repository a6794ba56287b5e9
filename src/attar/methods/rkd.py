"""RKD: the student keeps the distances and angles between images that the teacher sees."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.losses import RKDAngle, RKDDistance
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import POOLED, Layers, arranged, tap_pairs
from attar.methods.registry import register
from attar.models.surgery.layouts import as_vector


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
        angle: weight of the angles of all triplets (50); 0 leaves them out, for more than 1,024 samples (graphs).
        ce: weight of the labels (1).
        layers: {student.PATH: teacher.PATH, ...}, averaged over space, in place of the pooled features.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        distance: float = 25.0,
        angle: float = 50.0,
        ce: float = 1.0,
        layers: Layers | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.distance, self.angle, self.ce = distance, angle, ce
        self.pairs = tap_pairs(self.name, teacher, student, layers, POOLED)
        self.distances, self.angles = (arranged(one, layers, as_vector) for one in (RKDDistance(), RKDAngle()))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        for theirs, own in self.pairs:
            ends = (f"teacher.{theirs}", f"student.{own}")
            between = "->".join(ends)
            yield Transfer(*ends, self.distances, weight=self.distance, name=f"{between}:distance")
            if self.angle:
                yield Transfer(*ends, self.angles, weight=self.angle, name=f"{between}:angle")
