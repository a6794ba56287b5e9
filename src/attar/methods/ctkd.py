"""CTKD: the temperature is learnt against the student."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.common.learnt_temperature import LearntTemperature
from attar.methods.registry import register
from attar.models import class_count


@register(
    "ctkd",
    title="Curriculum Temperature for Knowledge Distillation",
    paper="arXiv:2211.16231",
    year=2022,
    family="offline",
)
class CTKD(Offline):
    """Curriculum Temperature for Knowledge Distillation (Li et al., AAAI 2023), on KD.

    L = ce * CE + kd * T^2 KL(p_t || p_s) with T = start + span * sigmoid(theta). The student makes it small and theta
    makes it large: theta's gradient is multiplied by lambda, which falls from 0 to -1 along a half cosine over the
    first epochs, see `LearntTemperature`. T starts at 15.62 and has the student's optimiser, weight decay too.

    Any other method's logit edges learn their temperature with method.logit_edges=learnt.

    Lambda counts epochs from 1, as the authors' code does: at 0 the first epoch would not move theta.

    With per_image a small network predicts theta from both networks' logits of each image, and only training has it.
    RECONSTRUCTED: the paper has this variant, the released code does not; that it reads detached logits, its hidden
    width (as many as classes) and its start (T = 15.62 for every image) are ours.

    Args:
        teacher: a trained network.
        student: the network to train.
        start: the smallest T (1).
        span: how much larger T may become (20).
        loops: epochs until theta's gradient is fully reversed (10).
        ce: weight of the labels (0.1).
        kd: weight of the teacher (0.9).
        per_image: a temperature for each image (false: one for all, as released).
        image_shape: (C, H, W) of one image, by default the networks' own; per_image counts the classes with it.
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
        per_image: bool = False,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        classes = class_count(student, image_shape) if per_image else None
        self.loss = LearntTemperature(losses.KLDivergence(), start, span, loops, classes=classes)
        self.ce, self.kd = ce, kd

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", self.loss, weight=self.kd, given=("epoch",))
