"""KD++: the student's features point to the teacher's class means, and are as long as the teacher's."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses import NormDirection
from attar.losses.numerics import product, widen
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.models import tap_shapes
from attar.schedules import LinearWarmup


@register(
    "kdpp",
    title="Improving Knowledge Distillation via Regularizing Feature Norm and Direction",
    paper="arXiv:2305.17007",
    year=2023,
    family="offline",
    needs=("pooled", "classifier"),
)
class KDPP(Offline):
    """Improving Knowledge Distillation via Regularizing Feature Norm and Direction (Wang et al., 2023): KD++.

    L = ce * CE + kd * min((epoch + 1) / warmup, 1) * KL + weight * mean of 1 - <f_s, e_y> / max(|f_s|, |f_t|) on the
    pooled features, e_y the unit vector of the teacher's mean feature of class y. Where widths differ, a batch norm, a
    dropout of a half and a linear layer bring the student's features to the teacher's width, as in the code.

    Weights (kd, weight) of the code, with the labels' 1 throughout: resnet56 to resnet20 (1, 2), resnet32x4 to
    resnet8x4 (3.5, 2), wrn_40_2 to wrn_40_1 (1, 1.5), ResNet-50 to MobileNetV2 (3, 0.5), resnet32x4 to ShuffleNetV1
    (2.5, 1.5) and ShuffleNetV2 (4, 0.5). The code keeps the best epoch of the test set; here the last one is reported.

    Deviates: the code takes the class means over the training set before training; here they are running means over
    the images seen so far, this batch included, so that they follow the augmentation and need no pass of their own.
    They are saved with the run. A class that was never seen has no direction yet, and its images no such term. The
    first epoch has 1 / warmup of KL, where the code has none.

    Args:
        teacher: a trained network with a linear classifier.
        student: the network to train.
        weight: of norm and direction (2).
        kd: weight of the KL divergence (1).
        temperature: of the KL divergence (4).
        ce: weight of the labels (1).
        warmup: epochs until the KL divergence has its full weight (20 of 240); a short run wants fewer.
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: in its first pass: images without labels, or mixed ones.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 2.0,
        kd: float = 1.0,
        temperature: float = 4.0,
        ce: float = 1.0,
        warmup: int = 20,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.temperature, self.ce = weight, temperature, ce
        self.kd = LinearWarmup(warmup, kd)
        for tapped in (self.teacher, self.student):
            tapped.request("pooled")
        theirs, own = (tap_shapes(net, ["pooled"], image_shape)["pooled"][0] for net in (teacher, student))
        self.embed = nn.Identity() if theirs == own else embedding(own, theirs)
        self.loss = ClassMeans(self.teacher.classifier.out_features, theirs)

    def run(self, batch: Batch) -> Knowledge:
        if batch.labelled is not None or batch.labels.is_floating_point():
            raise AttarError(
                "kdpp compares with the mean feature of each image's class; leave data.unlabelled, data.mixup and "
                "data.cutmix out"
            )
        return super().run(batch)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield self.output_edge("teacher", "student", self.temperature, weight=self.kd)
        ends = ("teacher.pooled", "student.pooled")
        yield Transfer(*ends, self.loss, weight=self.weight, given=("labels",), via=self.embed)


def embedding(own: int, theirs: int) -> nn.Module:
    """What brings the student's features to the teacher's width."""
    linear = nn.Linear(own, theirs)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.BatchNorm1d(own), nn.Dropout(0.5), linear)


class ClassMeans(nn.Module):
    """`NormDirection` to the running class means of the source.

    Args:
        classes: how many.
        width: of the features.
    """

    whole_batch = True  # processes remember the same

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.loss = NormDirection()
        self.sums: Tensor
        self.register_buffer("sums", torch.zeros(classes, width))

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor) -> Tensor:
        # The direction of a sum is that of the mean.
        own = F.one_hot(labels, len(self.sums)).to(self.sums)
        sums = self.sums + product(own.mT, widen(source.detach()).to(self.sums))
        if self.training:
            self.sums.copy_(sums)
        return self.loss(learner, source, F.normalize(sums, dim=1)[labels])
