"""MLKD: logits compared by image, between images and between classes, at several temperatures."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register("mlkd", title="Multi-level Logit Distillation", paper="CVPR 2023", year=2023, family="offline")
class MLKD(Offline):
    """Multi-level Logit Distillation (Jin, Wang, Lin, CVPR 2023).

    L = ce * CE + kd * sum over T in 2..6 of (T^2 KL + differences of the Gram matrices of the probabilities, between
    images and between classes), see `attar.losses.mlkd`.

    Deviates: one view of each image. The authors add the same terms on a strongly augmented second view, and count
    those of the first view for about half the images, by the teacher's confidence; they train for 480 epochs. Recipes
    do not give methods a second view, so compare with their numbers only with that in mind.

    Args:
        teacher: a trained network.
        student: the network to train.
        ce: weight of the labels (0.1).
        kd: weight of the teacher (0.9).
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, *, ce: float = 0.1, kd: float = 0.9) -> None:
        super().__init__(teacher, student)
        self.ce, self.kd = ce, kd

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", losses.MLKD(), weight=self.kd)
