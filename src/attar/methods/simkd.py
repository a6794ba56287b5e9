"""SimKD: the student learns the teacher's last features and reuses its classifier."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from torch import nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Output, Transfer
from attar.losses import MSE
from attar.methods.base import Method
from attar.methods.common.stage_pairs import require_staged, stage_name
from attar.methods.registry import register
from attar.models import Frozen, ProjectedNet, SimKDProjector, match_size, tap_shapes


@register(
    "simkd",
    title="Knowledge Distillation with the Reused Teacher Classifier",
    paper="arXiv:2203.14001",
    year=2022,
    family="offline",
    needs=("stages", "classifier"),
)
class SimKD(Method):
    """Knowledge Distillation with the Reused Teacher Classifier (Chen et al., CVPR 2022).

    L = MSE(projector(student's last map), teacher's last map); no labels. The teacher's last map is the one its
    classifier sees the average of: for wide ResNets after the final normalisation, for MobileNetV2 and ShuffleNetV2
    after the last 1x1 convolution. What is deployed is the student's trunk,
    the projector and the teacher's classifier. Where the two maps differ in size, the larger is average-pooled.

    Args:
        teacher: a trained staged network.
        student: the staged network to train; its own layers after the last stage are not used.
        factor: the projector's bottleneck: its inner width is the teacher's divided by this (2).
        weight: of the feature loss (1).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        factor: int = 2,
        weight: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        teacher = require_staged(self.name, "teacher", teacher)
        student = require_staged(self.name, "student", student)
        self.weight = weight
        self.teacher = Frozen(teacher)
        own = stage_name(self.name, "student", student, -1)
        channels, *_ = tap_shapes(student, [own], image_shape)[own]
        width, height, breadth = tap_shapes(teacher, ["final"], image_shape)["final"]
        classifier = copy.deepcopy(teacher.classifier).requires_grad_(False)
        self.student = ProjectedNet(student, SimKDProjector(channels, width, factor), classifier, [(height, breadth)])

    def run(self, batch: Batch) -> Knowledge:
        taught = self.teacher(batch.images, ["final"])
        own, theirs = match_size(self.student.last_map(batch.images), taught.tap("final"))
        projected = self.student.projectors[0](own)
        student = Output(self.student.classify(0, projected), {"projected": projected})
        return Knowledge(batch, teacher=taught, student=student).add("teacher.aligned", theirs)

    def transfers(self) -> Iterable[Transfer]:
        yield Transfer("teacher.aligned", "student.projected", MSE(), weight=self.weight)

    def deployed(self) -> nn.Module:
        return self.student
