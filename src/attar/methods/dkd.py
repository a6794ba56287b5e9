"""DKD: the target class and the other classes are distilled apart."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.schedules import LinearWarmup


@register("dkd", title="Decoupled Knowledge Distillation", paper="arXiv:2203.08679", year=2022, family="offline")
class DKD(Offline):
    """Decoupled Knowledge Distillation (Zhao et al., CVPR 2022).

    L = ce * CE + w(epoch) * T^2 (alpha * TCKD + beta * NCKD), with w rising linearly over the first epochs.

    Args:
        teacher: a trained network.
        student: the network to train.
        temperature: T (4 on CIFAR-100, 1 on ImageNet).
        alpha: weight of the target-class part (1).
        beta: weight of the other classes (8 for resnet32x4 pairs, 6 for wrn and vgg, 2 for resnet56 and resnet110).
        warmup: epochs until the full weight (20 of 240); a short run wants fewer.
        ce: weight of the labels (1).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        warmup: int = 20,
        ce: float = 1.0,
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.alpha, self.beta, self.warmup, self.ce = temperature, alpha, beta, warmup, ce

    def transfers(self) -> Iterable[Transfer]:
        loss = losses.DKD(alpha=self.alpha, beta=self.beta, temperature=self.temperature)
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", loss, weight=LinearWarmup(self.warmup), given=("labels",))
