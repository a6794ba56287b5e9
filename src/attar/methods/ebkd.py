"""EBKD: of several teachers, those that are sure of an image count more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.common.several_teachers import SeveralTeachers
from attar.methods.registry import register


@register("ebkd", title="Entropy-based weighting of several teachers", paper="ICASSP 2022", year=2022, family="offline")
class EBKD(SeveralTeachers):
    """Several teachers weighed by their entropy, as released beside CA-MKD.

    L = ce * CE + kd * mean over teachers and images of (1 - H_k / sum of H) T^2 KL(p_k || p_s).

    Args:
        teacher: trained networks, teacher=a,b.
        student: the network to train.
        temperature: T (4).
        ce: weight of the labels (1).
        kd: weight of the teachers (1).
    """

    def __init__(
        self,
        teacher: nn.Module | Sequence[nn.Module],
        student: nn.Module,
        *,
        temperature: float = 4.0,
        ce: float = 1.0,
        kd: float = 1.0,
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.ce, self.kd = temperature, ce, kd

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teachers.logits", "student.logits", losses.EntropyWeightedKL(self.temperature), weight=self.kd)
