"""L2D: each label's logit, and the distances of label embeddings within a label and within an image."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.losses import ClassStructure, InstanceStructure
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.models import classifier_of


@register(
    "l2d",
    title="Multi-Label Knowledge Distillation",
    paper="ICCV 2023",
    year=2023,
    family="offline",
    needs=("pooled", "classifier"),
)
class L2D(Offline):
    """Multi-Label Knowledge Distillation (Yang et al., ICCV 2023); for the task multilabel.

    L = ce * BCE + kd * MLD + classes * CD + instances * ID. MLD compares each label's two probabilities, CD the
    distances between the images of a label, ID those between the labels of an image. On classes that exclude each
    other the first two are the task's own losses, and ID is 0.

    Deviates: the authors train both networks with a decoder of one query a label. Here a label's embedding is the
    pooled feature times the classifier's row of that label, entry by entry, whose sum is the logit without its bias; so
    networks stay as they are. The published weights (1, 10, 100, 1000) are those of sums over images and labels; here
    all four are means, and the defaults have the published proportions at a batch of 64 and the 80 labels of COCO.

    Args:
        teacher: a trained network with a linear classifier.
        student: the network to train, with a linear classifier.
        temperature: T of MLD (1).
        ce: weight of the labels (1).
        kd: weight of MLD (10 / 64).
        classes: weight of CD (100 / 64).
        instances: weight of ID (1000 / 80).

    Raises:
        AttarError: a network has no linear classifier.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 1.0,
        ce: float = 1.0,
        kd: float = 0.15625,
        classes: float = 1.5625,
        instances: float = 12.5,
    ) -> None:
        for network in (teacher, student):
            classifier_of(network)
        super().__init__(teacher, student)
        self.temperature, self.ce, self.kd, self.classes, self.instances = temperature, ce, kd, classes, instances
        self.teacher.request("pooled")
        self.student.request("pooled")

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        for name, network in (("teacher", self.teacher.module), ("student", self.student.module)):
            pooled = known[f"{name}.pooled"]
            assert isinstance(pooled, Tensor)
            known.add(f"{name}.label_embeddings", pooled[:, None] * classifier_of(network).weight)
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield self.output_edge("teacher", "student", self.temperature, self.kd)
        for name, loss, weight in (
            ("images of a label", ClassStructure(), self.classes),
            ("labels of an image", InstanceStructure(), self.instances),
        ):
            yield Transfer(
                "teacher.label_embeddings", "student.label_embeddings", loss, weight, given=("labels",), name=name
            )
