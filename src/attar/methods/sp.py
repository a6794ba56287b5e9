"""SP: images that are alike for the teacher are alike for the student."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import Layers, tap_pairs
from attar.methods.registry import register


@register(
    "sp",
    title="Similarity-Preserving Knowledge Distillation",
    paper="arXiv:1907.09682",
    year=2019,
    family="offline",
    needs=("stages",),
)
class SP(Offline):
    """Similarity-Preserving Knowledge Distillation (Tung and Mori, ICCV 2019), on the last stage.

    L = ce * CE + weight * ||G_t - G_s||^2 / B^2, G = F F^T of the flattened maps, its rows scaled to length 1.

    Args:
        teacher: a trained staged network.
        student: the staged network to train; the maps' shapes may differ.
        weight: of the similarities (3000).
        ce: weight of the labels (1).
        layers: {student.PATH: teacher.PATH, ...}, in place of the last stages; of any shapes.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 3000.0,
        ce: float = 1.0,
        layers: Layers | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        self.pairs = tap_pairs(self.name, teacher, student, layers)[None if layers else -1 :]

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        for theirs, own in self.pairs:
            yield Transfer(f"teacher.{theirs}", f"student.{own}", losses.SimilarityPreserving(), weight=self.weight)
