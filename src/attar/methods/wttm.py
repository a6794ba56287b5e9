"""WTTM: transformed teacher matching that weighs images by how unsure the teacher is."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register("wttm", title="Weighted Transformed Teacher Matching", paper="arXiv:2402.11148", year=2024, family="offline")
class WTTM(Offline):
    """Knowledge Distillation Based on Transformed Teacher Matching (Zheng and Yang, ICLR 2024), its weighted form.

    L = ce * CE + weight * mean over images of U * KL(q || p_s), q proportional to p_t^power, U = sum of p_t^power.

    Args:
        teacher: a trained network.
        student: the network to train.
        power: the teacher's exponent, an inverse temperature (0.2, published beside CRD).
        weight: of the teacher (4, published beside CRD; alone other pairs have their own).
        ce: weight of the labels (1).
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, *, power: float = 0.2, weight: float = 4.0, ce: float = 1.0
    ) -> None:
        super().__init__(teacher, student)
        self.power, self.weight, self.ce = power, weight, ce

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", losses.WTTM(self.power), weight=self.weight)
