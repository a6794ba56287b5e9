"""LSKD: logits are standardised before they are compared."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register(
    "lskd",
    title="Logit Standardization in Knowledge Distillation",
    paper="arXiv:2403.01427",
    year=2024,
    family="offline",
)
class LSKD(Offline):
    """Logit Standardization in Knowledge Distillation (Sun et al., CVPR 2024), on KD.

    L = ce * CE + kd * T^2 KL of the standardised logits, (z - mean) / std of each image in each network, so that the
    student need not match the teacher's scale. With two classes only their order is left, and the teacher's term has no
    gradient: choose kd.

    Args:
        teacher: a trained network.
        student: the network to train.
        temperature: the base temperature T (2; 3 for some pairs).
        ce: weight of the labels (0.1).
        kd: weight of the teacher (9).
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, *, temperature: float = 2.0, ce: float = 0.1, kd: float = 9.0
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.ce, self.kd = temperature, ce, kd

    def transfers(self) -> Iterable[Transfer]:
        loss = losses.Standardised(losses.KLDivergence(self.temperature))
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", loss, weight=self.kd)
