"""TF-KD: a virtual teacher, made from the labels, takes the place of a network."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Method
from attar.methods.registry import register
from attar.models import Tapped


@register("tfkd", title="Teacher-free Knowledge Distillation", paper="arXiv:1909.11723", year=2019, family="self")
class TFKD(Method):
    """Revisiting Knowledge Distillation via Label Smoothing Regularization (Yuan et al., CVPR 2020): Tf-KD_reg.

    L = ce * CE + kd * KL(softmax(u / T) || p_s), u = 0.99 for the label and the rest spread over the other classes; the
    student is at temperature 1. The softmax of a vector of probabilities is the authors' code's: with 100 classes the
    label has 0.0105 of the target. Tf-KD_self, KD from a trained network of the same kind, is `bornagain`.

    Deviates: KL is summed over the classes, where the authors' code averages over them and multiplies by 100 for a
    ResNet-18: on CIFAR-100 that is the same number. Their other networks have multiplier 1: divide `kd` by 100.

    Args:
        student: the network to train.
        temperature: T of the target (20; 40 for the authors' other networks).
        correct: the label's share in u (0.99).
        ce: weight of the labels (0.9).
        kd: weight of the virtual teacher (0.1).
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        temperature: float = 20.0,
        correct: float = 0.99,
        ce: float = 0.9,
        kd: float = 0.1,
    ) -> None:
        super().__init__()
        self.student = Tapped(student)
        self.loss = losses.VirtualTeacherKL(temperature, correct)
        self.ce, self.kd = ce, kd

    def run(self, batch: Batch) -> Knowledge:
        return Knowledge(batch, student=self.student(batch.inputs))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("labels", "student.logits", self.loss, weight=self.kd, name="labels->student:virtual")

    def deployed(self) -> nn.Module:
        return self.student.module
