"""DIST: the student's predictions correlate with the teacher's, within an image and within a class."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register(
    "dist",
    title="Knowledge Distillation from a Stronger Teacher",
    paper="arXiv:2205.10536",
    year=2022,
    family="offline",
)
class DIST(Offline):
    """Knowledge Distillation from A Stronger Teacher (Huang et al., NeurIPS 2022).

    L = ce * CE + weight * T^2 (beta * (1 - correlation of rows) + gamma * (1 - correlation of columns)), Pearson
    correlations of the softened predictions: between the classes of an image, and between the images of a class. With
    two classes the first is 1 or -1 and has no gradient; the second is left.

    Args:
        teacher: a trained network.
        student: the network to train.
        temperature: T (4 on CIFAR-100, 1 on ImageNet).
        beta: weight between classes, within an image (1).
        gamma: weight between images, within a class (1).
        weight: of both (2).
        ce: weight of the labels (1).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 4.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        weight: float = 2.0,
        ce: float = 1.0,
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.beta, self.gamma, self.weight, self.ce = temperature, beta, gamma, weight, ce

    def transfers(self) -> Iterable[Transfer]:
        loss = losses.DIST(self.beta, self.gamma, self.temperature)
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", loss, weight=self.weight)
