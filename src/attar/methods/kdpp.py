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

    L = ce * CE + kd * KL + weight * mean of 1 - <f_s, e_y> / max(|f_s|, |f_t|) on the pooled features, e_y the unit
    vector of the teacher's mean feature of class y. A linear layer brings the student's features to the teacher's width
    where they differ.

    Deviates: the paper takes the class means over the training set before training; here they are running means over
    the images seen so far, this batch included, so that they follow the augmentation and need no pass of their own.
    They are saved with the run. A class that was never seen has no direction yet, and its images no such term.

    Ours: the weights of labels and teacher and the temperature, which are those of `kd`, and `weight` within the
    range of the paper, whose values for each pair of networks were not found.

    Args:
        teacher: a trained network with a linear classifier.
        student: the network to train.
        weight: of norm and direction (2, ours; the paper uses 2 to 4).
        kd: weight of the KL divergence (0.9, ours).
        temperature: of the KL divergence (4, ours).
        ce: weight of the labels (0.1, ours).
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
        kd: float = 0.9,
        temperature: float = 4.0,
        ce: float = 0.1,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.kd, self.temperature, self.ce = weight, kd, temperature, ce
        for tapped in (self.teacher, self.student):
            tapped.request("pooled")
        theirs, own = (tap_shapes(net, ["pooled"], image_shape)["pooled"][0] for net in (teacher, student))
        self.embed = nn.Identity() if theirs == own else nn.Linear(own, theirs)
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
