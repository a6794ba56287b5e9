"""CA-MKD: of several teachers, those that are right about an image count more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from attar import losses
from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.methods.common.several_teachers import SeveralTeachers
from attar.methods.registry import register


@register(
    "camkd",
    title="Confidence-Aware Multi-Teacher Knowledge Distillation",
    paper="arXiv:2201.00007",
    year=2022,
    family="offline",
)
class CAMKD(SeveralTeachers):
    """Confidence-Aware Multi-Teacher Knowledge Distillation (Zhang, Chen, Wang, ICASSP 2022), on logits.

    L = ce * CE + kd * mean over teachers and images of w T^2 KL(p_k || p_s), w the share of teacher k, from its
    cross-entropy with the label. Divided by the number of teachers, as released.

    Deviates: the released method also has a feature term of weight 50, which is left out.

    Args:
        teacher: trained networks, teacher=a,b.
        student: the network to train.
        temperature: T (4).
        ce: weight of the labels (1).
        kd: weight of the teachers (1).
    """

    def __init__(
        self,
        teacher: nn.Module | Sequence[nn.Module],
        student: nn.Module,
        *,
        temperature: float = 4.0,
        ce: float = 1.0,
        kd: float = 1.0,
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.ce, self.kd = temperature, ce, kd

    def run(self, batch: Batch) -> Knowledge:
        if batch.labelled is not None or batch.mixed:
            raise AttarError("camkd weighs teachers by each image's own label; leave data.unlabelled and mixing out")
        return super().run(batch)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        loss = losses.ConfidenceWeightedKL(self.temperature)
        yield Transfer("teachers.logits", "student.logits", loss, weight=self.kd, given=("labels",))
