"""CC: differences between neighbouring images of a batch are correlated as the teacher's."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.models import tap_shapes


@register(
    "cc", title="Correlation Congruence", paper="arXiv:1904.01802", year=2019, family="offline", needs=("pooled",)
)
class CC(Offline):
    """Correlation Congruence for Knowledge Distillation (Peng et al., ICCV 2019), in the form of RepDistiller.

    L = ce * CE + weight * mean of <d_i, d_i+1>, d = |e_s - e_t| of an image; e are the pooled features after a linear
    layer each, both trained. The paper compares correlation matrices under a kernel; this is what is compared with.

    Args:
        teacher: a trained network.
        student: the network to train.
        weight: of the congruence (0.02).
        ce: weight of the labels (1).
        width: of the embeddings (128).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 0.02,
        ce: float = 1.0,
        width: int = 128,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        for network in (self.teacher, self.student):
            network.request("pooled")
        shapes = [tap_shapes(net, ["pooled"], image_shape)["pooled"] for net in (teacher, student)]
        self.teacher_embedding, self.student_embedding = (nn.Linear(shape[0], width) for shape in shapes)

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        known.add("teacher.embedding", self.teacher_embedding(known["teacher.pooled"]))
        return known.add("student.embedding", self.student_embedding(known["student.pooled"]))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.embedding", "student.embedding", losses.CC(), weight=self.weight, learns="both")
