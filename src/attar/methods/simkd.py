"""SimKD: the student learns the teacher's last features and reuses its classifier."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.losses import MSE
from attar.methods.base import Method
from attar.methods.registry import register
from attar.methods.stages import require_staged, stage_name
from attar.nets import Frozen, ProjectedNet, match_size


@register("simkd", title="Knowledge Distillation with the Reused Teacher Classifier", paper="arXiv:2203.14001",
          year=2022, family="offline", needs=("stages", "classifier"))
class SimKD(Method):
    """Knowledge Distillation with the Reused Teacher Classifier (Chen et al., CVPR 2022).

    L = MSE(projector(student's last map), teacher's last map); no labels. What is deployed is the student's trunk,
    the projector and the teacher's classifier. Where the two maps differ in size, the larger is average-pooled.

    Args:
        teacher: a trained staged network.
        student: the staged network to train; its own layers after the last stage are not used.
        factor: the projector's bottleneck: its inner width is the teacher's divided by this (2).
        weight: of the feature loss (1).
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, *, factor: int = 2, weight: float = 1.0) -> None:
        super().__init__()
        teacher = require_staged(self.name, "teacher", teacher)
        self.teacher = Frozen(teacher)
        self.student = ProjectedNet(require_staged(self.name, "student", student), [teacher], factor=factor)
        self.last = stage_name(self.name, "teacher", teacher, -1)
        self.weight = weight

    def forward(self, batch: Batch) -> Knowledge:
        taught = self.teacher(batch.images, taps=[self.last])
        said = self.student.features(batch.images, size=taught.tap(self.last).shape[-2:])
        _, aligned = match_size(said.tap("projected"), taught.tap(self.last))
        return Knowledge(batch, student=said, teacher=taught).add("teacher.aligned", aligned)

    def transfers(self) -> Iterable[Transfer]:
        yield Transfer("teacher.aligned", "student.projected", MSE(), weight=self.weight)

    def deployed(self) -> nn.Module:
        return self.student
