"""RLD: the teacher's confidence, and the classes below the label, without the teacher's mistakes."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.schedules import LinearWarmup


@register("rld", title="Refined Logit Distillation", paper="arXiv:2408.07703", year=2024, family="offline")
class RLD(Offline):
    """Knowledge Distillation with Refined Logits (Sun et al., 2024).

    L = ce * CE + w(epoch) * (alpha * confidence + beta * classes less likely than the label), see
    `attar.losses.logit_relations.refined`; w rises linearly over the first epochs.

    Args:
        teacher: a trained network.
        student: the network to train.
        temperature: T of the classes (4 on CIFAR-100, 1 on ImageNet).
        alpha: weight of the confidence (1).
        beta: weight of the classes (8; other pairs have their own, from 2).
        warmup: epochs until the full weight (20 of 240).
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
        loss, weight = losses.Refined(self.alpha, self.beta, self.temperature), LinearWarmup(self.warmup)
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", loss, weight=weight, given=("labels",))
