"""CS-KD: predictions of images of one class agree."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Method
from attar.methods.registry import register
from attar.models import Tapped


@register(
    "cskd",
    title="Regularizing Class-wise Predictions via Self-knowledge Distillation",
    paper="arXiv:2003.13964",
    year=2020,
    family="self",
)
class CSKD(Method):
    """Regularizing Class-wise Predictions via Self-knowledge Distillation (Yun et al., CVPR 2020).

    L = ce * CE + weight * T^2 KL(p(x') || p(x)), x' another image of the same class, its prediction without a gradient.

    Deviates: the authors draw one partner x' for each image from the whole training set and run it beside the batch,
    256 images for 128 that learn. Here the partners are the other images of the batch with the same label, all of them,
    each with the same weight, and nothing more is run; an image alone in its class has only its cross-entropy, and the
    second term is the mean over the others. It needs batches that are large for the number of classes: 72 % of the
    images have a partner with 128 images of 100 equally frequent classes.

    Args:
        student: the network to train.
        temperature: T (4).
        weight: of the agreement (1 on CIFAR-100, 3 on fine-grained classes).
        ce: weight of the labels (1).

    Raises:
        AttarError: in its first pass: images without labels, or mixed images, which have no one class.
    """

    def __init__(self, student: nn.Module, *, temperature: float = 4.0, weight: float = 1.0, ce: float = 1.0) -> None:
        super().__init__()
        self.student = Tapped(student)
        self.temperature, self.weight, self.ce = temperature, weight, ce

    def run(self, batch: Batch) -> Knowledge:
        if batch.labelled is not None or batch.labels.is_floating_point():
            raise AttarError("cskd pairs images by their class; leave data.unlabelled and mixed images out")
        return Knowledge(batch, student=self.student(batch.inputs))

    def transfers(self) -> Iterable[Transfer]:
        loss = losses.SameClassKL(self.temperature)
        yield self.label_edge(weight=self.ce)
        yield Transfer("student.logits", "student.logits", loss, weight=self.weight, given=("labels",))

    def deployed(self) -> nn.Module:
        return self.student.module
