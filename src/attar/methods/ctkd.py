"""CTKD: the temperature is learnt against the student."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attar import losses
from attar.batch import Batch
from attar.knowledge import Knowledge, ScaledGradient, Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register(
    "ctkd",
    title="Curriculum Temperature for Knowledge Distillation",
    paper="arXiv:2211.16231",
    year=2022,
    family="offline",
)
class CTKD(Offline):
    """Curriculum Temperature for Knowledge Distillation (Li et al., AAAI 2023), on KD, one temperature for all images.

    L = ce * CE + kd * T^2 KL(p_t || p_s) with T = start + span * sigmoid(theta). The student makes it small and theta
    makes it large: theta's gradient is multiplied by lambda, which falls from 0 to -1 along a half cosine over the
    first epochs, see `reversal`. T starts at 15.62 and has the student's optimiser, weight decay too.

    Deviates: the paper's other variant, a temperature for each image from a small network, is not here; lambda is taken
    at epoch 0 in the first epoch, where the authors' code counts epochs from 1.

    Args:
        teacher: a trained network.
        student: the network to train.
        start: the smallest T (1).
        span: how much larger T may become (20).
        loops: epochs until theta's gradient is fully reversed (10).
        ce: weight of the labels (0.1).
        kd: weight of the teacher (0.9).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        start: float = 1.0,
        span: float = 20.0,
        loops: int = 10,
        ce: float = 0.1,
        kd: float = 0.9,
    ) -> None:
        super().__init__(teacher, student)
        self.loss = LearntTemperatureKL(start, span)
        self.loops, self.ce, self.kd = loops, ce, kd

    def run(self, batch: Batch) -> Knowledge:
        scale = torch.full((), reversal(batch.address.epoch, self.loops), device=batch.device)
        return super().run(batch).add("temperature.scale", scale)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", self.loss, weight=self.kd, given=("temperature.scale",))


def reversal(epoch: int, loops: int) -> float:
    """Lambda: (cos(pi * epoch / loops) - 1) / 2 until `loops`, -1 from there on.

    >>> [round(reversal(epoch, 10), 6) + 0.0 for epoch in (0, 5, 10, 200)]
    [0.0, -0.5, -1.0, -1.0]
    """
    return (math.cos(math.pi * min(epoch / loops, 1.0)) - 1) / 2 if loops > 0 else -1.0


class LearntTemperatureKL(nn.Module):
    """T^2 KL(p_t || p_s) at a temperature that is a parameter: loss(student_logits, teacher_logits, scale).

    `scale` multiplies the gradient of the parameter: -1 moves the temperature to where the loss is larger.

    >>> round(LearntTemperatureKL(1.0, 20.0).temperature().item(), 4)
    15.6212
    """

    def __init__(self, start: float, span: float) -> None:
        super().__init__()
        self.start, self.span = start, span
        self.theta = nn.Parameter(torch.ones(1))

    def temperature(self) -> Tensor:
        """(1,): T as it is now."""
        return self.start + self.span * self.theta.sigmoid()

    def forward(self, learner: Tensor, source: Tensor, scale: Tensor) -> Tensor:
        theta = ScaledGradient.apply(self.theta, scale)
        return losses.kl_divergence(learner, source, self.start + self.span * theta.sigmoid())
