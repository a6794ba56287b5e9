"""SKD: one divergence for each image, and the direction of the batch's similarities."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register("skd", title="Streamlined Knowledge Distillation", paper="CVPR 2026", year=2026, family="offline")
class SKD(Offline):
    """Streamlined Knowledge Distillation (CVPR 2026), as released.

    L = ce * CE + kd * (m_i T^2 KL(p_t || p_s) + m_c L_dir), L_dir the whitened distance between the cosine similarities
    of the batch's logits; m_i and m_c are shares of images and classes near one half (`attar.losses.Streamlined`). The
    paper's form has neither and equal weights.

    Args:
        teacher: a trained network.
        student: the network to train.
        temperature: T (4 on CIFAR-100, 1 on ImageNet).
        tikhonov: what is added to the covariance's diagonal (0.1).
        ce: weight of the labels (0.1; 0.5 for resnet32x4 to resnet8x4).
        kd: weight of the teacher (0.9; 0.5 for that pair).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 4.0,
        tikhonov: float = 0.1,
        ce: float = 0.1,
        kd: float = 0.9,
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.tikhonov, self.ce, self.kd = temperature, tikhonov, ce, kd

    def transfers(self) -> Iterable[Transfer]:
        loss = losses.Streamlined(self.temperature, self.tikhonov)
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", loss, weight=self.kd)
