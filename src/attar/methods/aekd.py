"""AE-KD: a small autoencoder imitates what a large one reconstructs."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register("aekd", title="Autoencoder KD for CSI feedback", paper="arXiv:2210.17113", year=2022, family="offline")
class AEKD(Offline):
    """Lightweight Neural Network with Knowledge Distillation for CSI Feedback (Cui, Guo et al.): autoencoder KD.

    L = hard * supervise(student, H) + soft * imitate(student, teacher), by the task's own losses: of channels both are
    squared errors, to the true channel and to the teacher's reconstruction of it.

    The two terms follow the abstract. Their weights were not found in the sources; 1 and 1 are ours.

    Args:
        teacher: a trained autoencoder, or another network of the task.
        student: the network to train.
        hard: weight of the labels (1).
        soft: weight of the teacher's output (1).
        temperature: where the task's imitation has one, in classification (4).
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, *, hard: float = 1.0, soft: float = 1.0, temperature: float = 4.0
    ) -> None:
        super().__init__(teacher, student)
        self.hard, self.soft, self.temperature = hard, soft, temperature

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.hard)
        yield self.output_edge("teacher", "student", self.temperature, self.soft)
