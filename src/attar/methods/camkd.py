"""CA-MKD: of several teachers, those that are right about an image count more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from attar import losses
from attar.batch import Batch
from attar.errors import AttarError, PairError
from attar.knowledge import Knowledge, Transfer
from attar.methods.common.borrowed_classifier import borrowed_logits
from attar.methods.common.several_teachers import SeveralTeachers
from attar.methods.common.stage_pairs import layer_shapes
from attar.methods.registry import register
from attar.models import Staged
from attar.models.surgery.adapters import resized
from attar.models.surgery.layouts import as_feature
from attar.schedules import From

FINAL = "final"


@register(
    "camkd",
    title="Confidence-Aware Multi-Teacher Knowledge Distillation",
    paper="arXiv:2201.00007",
    year=2022,
    family="offline",
    needs=("stages", "classifier"),
)
class CAMKD(SeveralTeachers):
    """Confidence-Aware Multi-Teacher Knowledge Distillation (Zhang, Chen, Wang, ICASSP 2022).

    L = ce * CE + kd * mean over teachers and images of w T^2 KL(p_k || p_s)
    + feature * mean over teachers and images of v MSE(h_k(F_s), F_k), F the last maps.

    w is the share of teacher k, from its cross-entropy with the label; v is its share from that of its classifier on
    h_k(F_s), the student's map through a 1x1 convolution, batch norm and ReLU of its own. The shares of an image sum
    to 1 and are averaged over teachers all the same, as released; the maps count from the second epoch on, as there.
    feature=0 leaves the maps out, and then any networks do.

    Deviates: v is a constant, where the released code lets a gradient through it; each h_k begins with the student's
    map, where the released code resizes it from one teacher's size to the next.

    Args:
        teacher: trained networks, teacher=a,b.
        student: the network to train.
        temperature: T (4).
        ce: weight of the labels (1).
        kd: weight of the teachers (1).
        feature: weight of the maps (50, the authors' command; 0 leaves them out).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: with maps, a network has no stages, and a batch with mixed images or such without a label.
    """

    def __init__(
        self,
        teacher: nn.Module | Sequence[nn.Module],
        student: nn.Module,
        *,
        temperature: float = 4.0,
        ce: float = 1.0,
        kd: float = 1.0,
        feature: float = 50.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.ce, self.kd, self.feature = temperature, ce, kd, feature
        self.connectors = nn.ModuleList(self._connectors(image_shape) if feature else [])

    def _connectors(self, image_shape: tuple[int, int, int] | None) -> list[nn.Module]:
        """For each teacher, what brings the student's map to its shape."""
        shapes = []
        for one in (self.student, *(getattr(self, name) for name in self.names)):
            if not isinstance(one.module, Staged):
                raise PairError(
                    f"method 'camkd' compares last maps, and {type(one.module).__name__} has no stages; "
                    "method.feature=0 leaves the maps out"
                )
            one.request(FINAL)
            shapes.append(layer_shapes(one.module, [FINAL], image_shape, as_feature, None)[FINAL])
        own, *theirs = shapes
        return [embedding(own, one) for one in theirs]

    def run(self, batch: Batch) -> Knowledge:
        if batch.labelled is not None or batch.mixed:
            raise AttarError("camkd weighs teachers by each image's own label; leave data.unlabelled and mixing out")
        known = super().run(batch)
        if not self.connectors:
            return known
        final, maps, connected, logits = known[f"student.{FINAL}"], [], [], []
        assert isinstance(final, Tensor)
        for name, connector in zip(self.names, self.connectors, strict=True):
            theirs = known[f"{name}.{FINAL}"]
            assert isinstance(theirs, Tensor)
            own = connector(final)
            maps.append(theirs)
            connected.append(own)
            logits.append(borrowed_logits(getattr(self, name).classifier, own))
        known.add(f"teachers.{FINAL}", tuple(maps)).add("student.connected", tuple(connected))
        return known.add("student.borrowed", tuple(logits))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        loss = losses.ConfidenceWeightedKL(self.temperature)
        yield Transfer("teachers.logits", "student.logits", loss, weight=self.kd, given=("labels",))
        if self.feature:
            maps = losses.ConfidenceWeightedMSE()
            ends, given = (f"teachers.{FINAL}", "student.connected"), ("labels", "student.borrowed")
            yield Transfer(*ends, maps, weight=From(1, self.feature), given=given)


def embedding(own: tuple[int, ...], theirs: tuple[int, ...]) -> nn.Module:
    """A map (C, H, W) to another shape: resized, then a 1x1 convolution, batch norm and ReLU."""
    (inputs, *old), (outputs, *new) = own, theirs
    convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
    return nn.Sequential(*resized(old, new), convolution, nn.BatchNorm2d(outputs), nn.ReLU())
