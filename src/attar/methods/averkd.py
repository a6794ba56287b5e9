"""AVER: several teachers, averaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.common.several_teachers import SeveralTeachers
from attar.methods.registry import register


@register("averkd", title="Average of several teachers", paper="KDD 2017", year=2017, family="offline")
class AverageKD(SeveralTeachers):
    """Several teachers with one weight each, the baseline of the literature on many teachers (after You et al., KDD
    2017).

    L = ce * CE + kd * mean over teachers and images of T^2 KL(p_k || p_s).

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
        yield Transfer("teachers.logits", "student.logits", losses.AverageKL(self.temperature), weight=self.kd)
