"""AT: the student attends to the same places as the teacher."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.losses import AttentionTransfer
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import Layers, arranged, tap_pairs
from attar.methods.registry import register
from attar.models.surgery.layouts import as_map


@register("at", title="Attention Transfer", paper="arXiv:1612.03928", year=2016, family="offline", needs=("stages",))
class AT(Offline):
    """Paying More Attention to Attention (Zagoruyko, Komodakis, ICLR 2017).

    L = ce * CE + weight * sum over stages of mean((Q_student - Q_teacher)^2), where Q is the normalised channel mean
    of the squared map.

    Args:
        teacher: a trained staged network.
        student: the staged network to train; the last stages are paired where the counts differ.
        weight: of each stage's term (1000 with the mean-square form).
        ce: weight of the labels (1).
        layers: {student.PATH: teacher.PATH, ...}, in place of the stages of both.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 1000.0,
        ce: float = 1.0,
        layers: Layers | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        self.pairs = tap_pairs(self.name, teacher, student, layers)
        self.loss = arranged(AttentionTransfer(), layers, as_map)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        for theirs, own in self.pairs:
            yield Transfer(f"teacher.{theirs}", f"student.{own}", self.loss, weight=self.weight)
