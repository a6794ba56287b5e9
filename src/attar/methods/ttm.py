"""TTM: the teacher has a temperature, the student has none."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register("ttm", title="Transformed Teacher Matching", paper="arXiv:2402.11148", year=2024, family="offline")
class TTM(Offline):
    """Knowledge Distillation Based on Transformed Teacher Matching (Zheng and Yang, ICLR 2024).

    L = ce * CE + weight * KL(q || p_s) with q proportional to p_t^power; the student's softmax has no temperature.

    Args:
        teacher: a trained network.
        student: the network to train.
        power: the teacher's exponent, an inverse temperature (0.1).
        weight: of the teacher (45, published for vgg13 to vgg8; other pairs have their own).
        ce: weight of the labels (1).
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, *, power: float = 0.1, weight: float = 45.0, ce: float = 1.0
    ) -> None:
        super().__init__(teacher, student)
        self.power, self.weight, self.ce = power, weight, ce

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", losses.TTM(self.power), weight=self.weight)
