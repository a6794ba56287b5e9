"""NormKD: every image has its own temperature, from the deviation of its logits."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register(
    "normkd",
    title="Normalized Logits for Knowledge Distillation",
    paper="arXiv:2308.00520",
    year=2023,
    family="offline",
)
class NormKD(Offline):
    """NormKD: Normalized Logits for Knowledge Distillation (Chi et al., 2023).

    L = ce * CE + kd * mean of T_t^2 KL(softmax(z_t / T_t) || softmax(z_s / T_s)), where T = scale * std(z) of each
    image, in each network. With two classes only their order is left, and the teacher's term has no gradient: choose
    kd.

    Args:
        teacher: a trained network.
        student: the network to train.
        scale: of the deviation (2).
        ce: weight of the labels (0.1).
        kd: weight of the teacher (0.9).
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, *, scale: float = 2.0, ce: float = 0.1, kd: float = 0.9
    ) -> None:
        super().__init__(teacher, student)
        self.scale, self.ce, self.kd = scale, ce, kd

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", losses.NormKD(self.scale), weight=self.kd)
