"""EKD: logits are evidence, and teacher and student agree on its mean and its amount."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.schedules import LinearWarmup


@register("ekd", title="Evidential Knowledge Distillation", paper="ICCV 2025", year=2025, family="offline")
class EKD(Offline):
    """Evidential Knowledge Distillation (ICCV 2025): logits parametrise a Dirichlet distribution over predictions.

    L = ce * expected cross-entropy + first * T^2 KL of the means + second * w(epoch) * T^2 KL of the Dirichlets, with
    w = min((epoch + 1) / warmup, 1). The student still predicts by its largest logit.

    Args:
        teacher: a trained network.
        student: the network to train.
        log_prior: lambda, the logarithm of the evidence of every class (-1.22 for resnet32x4 to resnet8x4; -0.93 for
            resnet56 to resnet20, with weights 5, 3, 2).
        temperature: T (1).
        ce: weight of the labels (1).
        first: weight of the means (4.5).
        second: weight of the Dirichlets (4.5).
        warmup: epochs until the full weight of the latter (30 of 240).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        log_prior: float = -1.22,
        temperature: float = 1.0,
        ce: float = 1.0,
        first: float = 4.5,
        second: float = 4.5,
        warmup: int = 30,
    ) -> None:
        super().__init__(teacher, student)
        self.log_prior, self.temperature, self.ce, self.first, self.second, self.warmup = (
            log_prior,
            temperature,
            ce,
            first,
            second,
            warmup,
        )

    def transfers(self) -> Iterable[Transfer]:
        settings = (self.temperature, self.log_prior)
        supervised = losses.EvidentialCrossEntropy(self.log_prior)
        yield Transfer("labels", "student.logits", supervised, weight=self.ce)
        ends = ("teacher.logits", "student.logits")
        yield Transfer(*ends, losses.EvidentialMeanKL(*settings), weight=self.first, name="teacher->student:mean")
        schedule = LinearWarmup(self.warmup, self.second)
        yield Transfer(*ends, losses.DirichletKL(*settings), weight=schedule, name="teacher->student:dirichlet")
