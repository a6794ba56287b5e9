"""EA-KD: images of which the networks are unsure count more."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register("eakd", title="Entropy-Adaptive Knowledge Distillation", paper="ICCV 2025", year=2025, family="offline")
class EAKD(Offline):
    """EA-KD: Entropy-based Adaptive Knowledge Distillation (ICCV 2025), on KD.

    L = ce * CE + kd * mean of w T^2 KL(p_t || p_s), w = H_t / 2 (1 + H_s / ln K) of the entropies, without a gradient.

    Args:
        teacher: a trained network.
        student: the network to train.
        temperature: T of the divergence (4).
        entropy_temperature: of the entropies (3 on CIFAR-100, 2 on ImageNet).
        ce: weight of the labels (0.1).
        kd: weight of the teacher (0.9).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 4.0,
        entropy_temperature: float = 3.0,
        ce: float = 0.1,
        kd: float = 0.9,
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.entropy_temperature, self.ce, self.kd = temperature, entropy_temperature, ce, kd

    def transfers(self) -> Iterable[Transfer]:
        loss = losses.EntropyAdaptiveKL(self.temperature, self.entropy_temperature)
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", loss, weight=self.kd)
