"""NST: the channels of a stage are distributed as the teacher's."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import Layers, arranged, tap_pairs
from attar.methods.registry import register
from attar.models.surgery.layouts import as_map


@register(
    "nst", title="Neuron Selectivity Transfer", paper="arXiv:1707.01219", year=2017, family="offline", needs=("stages",)
)
class NST(Offline):
    """Like What You Like: Knowledge Distill via Neuron Selectivity Transfer (Huang and Wang, 2017).

    L = ce * CE + weight * sum over stages of the maximum mean discrepancy between the channels' normalised activation
    maps, with the kernel (a . b)^2.

    Args:
        teacher: a trained staged network.
        student: the staged network to train; the last stages are paired where the counts differ.
        weight: of each stage's term (50).
        ce: weight of the labels (1).
        layers: {student.PATH: teacher.PATH, ...}, in place of the stages of both.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 50.0,
        ce: float = 1.0,
        layers: Layers | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        self.pairs = tap_pairs(self.name, teacher, student, layers)
        self.loss = arranged(losses.NST(), layers, as_map)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        for theirs, own in self.pairs:
            yield Transfer(f"teacher.{theirs}", f"student.{own}", self.loss, weight=self.weight)
