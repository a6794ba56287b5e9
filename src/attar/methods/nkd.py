"""NKD: the label's class with the teacher's probability, the other classes normalised among themselves."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register("nkd", title="Normalized Knowledge Distillation", paper="arXiv:2303.13005", year=2023, family="offline")
class NKD(Offline):
    """From Knowledge Distillation to Self-Knowledge Distillation (Yang et al., ICCV 2023).

    L = ce * CE - p_t,y log p_s,y + gamma * T^2 * cross-entropy of the distributions among the other classes.

    Args:
        teacher: a trained network.
        student: the network to train.
        temperature: T of the other classes (1, the authors' on ImageNet; 3 for ResNet-34 to ResNet-18 on CIFAR-100).
        gamma: weight of the other classes (1.5; 3.5 there, 1 for DeiT).
        ce: weight of the labels (1).
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, *, temperature: float = 1.0, gamma: float = 1.5, ce: float = 1.0
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.gamma, self.ce = temperature, gamma, ce

    def transfers(self) -> Iterable[Transfer]:
        loss = losses.NKD(gamma=self.gamma, temperature=self.temperature)
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", loss, given=("labels",))
