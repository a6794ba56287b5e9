"""CTKD: the temperature is learnt against the student."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.learnt_temperature import LearntTemperature
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
    first epochs, see `LearntTemperature`. T starts at 15.62 and has the student's optimiser, weight decay too.

    Any other method's logit edges learn their temperature with method.logit_edges=learnt.

    Lambda counts epochs from 1, as the authors' code does: at 0 the first epoch would not move theta.

    Deviates: the paper's other variant, a temperature for each image from a small network, is not here.

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
        self.loss = LearntTemperature(losses.KLDivergence(), start, span, loops)
        self.ce, self.kd = ce, kd

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", self.loss, weight=self.kd, given=("epoch",))
