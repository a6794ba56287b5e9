"""KD: the student imitates the teacher's softened predictions."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register("kd", title="Knowledge Distillation", paper="arXiv:1503.02531", year=2015, family="offline")
class KD(Offline):
    """Distilling the Knowledge in a Neural Network (Hinton, Vinyals, Dean).

    L = ce * CE(student, labels) + kd * T^2 KL(teacher_T || student_T), averaged over the batch.

    Args:
        teacher: a trained network.
        student: the network to train.
        temperature: T; 4 is what the CIFAR-100 literature uses.
        ce: weight of the labels (0.1 there).
        kd: weight of the teacher (0.9 there).
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, *, temperature: float = 4.0, ce: float = 0.1, kd: float = 0.9
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.ce, self.kd = temperature, ce, kd

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield self.output_edge("teacher", "student", self.temperature, self.kd)
