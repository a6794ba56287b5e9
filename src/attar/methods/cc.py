"""CC: differences between neighbouring images of a batch are correlated as the teacher's."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses.checks import check_positive
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import POOLED, Layers, layer_shapes, tap_pairs
from attar.methods.registry import register
from attar.models.surgery.layouts import as_vector


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
        layers: {student.PATH: teacher.PATH}, averaged over space, in place of the pooled features; one pair.
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
        layers: Layers | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        check_positive("width", width)
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        pairs = tap_pairs(self.name, teacher, student, layers, POOLED)
        if len(pairs) > 1:
            raise AttarError(f"method {self.name!r} compares one pair of layers, got {len(pairs)}; name one")
        self.theirs, self.own = pairs[0]
        self.teacher.request(self.theirs)
        self.student.request(self.own)
        taps = ((teacher, self.theirs), (student, self.own))
        shapes = [layer_shapes(net, [tap], image_shape, as_vector, layers)[tap] for net, tap in taps]
        self.teacher_embedding, self.student_embedding = (nn.Linear(shape[0], width) for shape in shapes)

    def run(self, batch: Batch) -> Knowledge:
        theirs, own = self.teacher(batch.inputs), self.student(batch.inputs)
        known = Knowledge(batch, teacher=theirs, student=own)
        known.add("teacher.embedding", self.teacher_embedding(as_vector(theirs.tap(self.theirs))))
        return known.add("student.embedding", self.student_embedding(as_vector(own.tap(self.own))))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.embedding", "student.embedding", losses.CC(), weight=self.weight, learns="both")
