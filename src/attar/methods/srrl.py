"""SRRL: the student's features pass the teacher's classifier."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.losses import MSE, LogitsMSE
from attar.methods.base import Offline
from attar.methods.common.borrowed_classifier import borrowed_logits
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import tap_shapes
from attar.models.surgery.adapters import shrunk


@register(
    "srrl",
    title="Softmax Regression Representation Learning",
    paper="ICLR 2021",
    year=2021,
    family="offline",
    needs=("stages", "classifier"),
)
class SRRL(Offline):
    """Knowledge Distillation via Softmax Regression Representation Learning (Yang et al., ICLR 2021).

    L = ce * CE + feature * MSE(h(F_s), F_t) + regression * MSE(W_t pooled h(F_s), z_t), h a 1x1 convolution with batch
    norm and ReLU on the final map, W_t the teacher's classifier, which stays as it is.

    Args:
        teacher: a trained staged network with a linear classifier.
        student: the staged network to train.
        feature: weight of the maps (1).
        regression: weight of the logits (1).
        ce: weight of the labels (1).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        feature: float = 1.0,
        regression: float = 1.0,
        ce: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        require_staged(self.name, "teacher", teacher)
        require_staged(self.name, "student", student)
        super().__init__(teacher, student)
        self.feature, self.regression, self.ce = feature, regression, ce
        for network in (self.teacher, self.student):
            network.request("final")
        theirs, own = (tap_shapes(net, ["final"], image_shape)["final"][0] for net in (teacher, student))
        self.connector = nn.Sequential(nn.Conv2d(own, theirs, 1, bias=False), nn.BatchNorm2d(theirs), nn.ReLU())

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        final, theirs = known["student.final"], known["teacher.final"]
        assert isinstance(final, Tensor)
        assert isinstance(theirs, Tensor)
        connected = self.connector(final)
        known.add("student.connected", shrunk(connected, theirs.shape[-2:]))
        known.add("teacher.connected", shrunk(theirs, connected.shape[-2:]))
        return known.add("student.regressed", borrowed_logits(self.teacher.classifier, connected))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.connected", "student.connected", MSE(), weight=self.feature)
        yield Transfer("teacher.logits", "student.regressed", LogitsMSE(), weight=self.regression)
