"""HKD: every layer of an auxiliary network, early layers first, as flows of information."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.losses import InformationFlow
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import common_stages
from attar.methods.registry import register
from attar.schedules import ExponentialDecay


@register(
    "hkd",
    title="Heterogeneous KD by information flow modelling",
    paper="arXiv:2005.00727",
    year=2020,
    family="offline",
    needs=("stages", "pooled"),
)
class HKD(Offline):
    """Heterogeneous Knowledge Distillation using Information Flow Modeling (Passalis et al., CVPR 2020), its stage 2.

    L = ce * CE + D(pooled) + w(epoch) * sum over stages D(stage), w = start * decay^epoch. D is the sum of the Jeffreys
    divergences of the batch's neighbourhoods under a cosine and a Student-t kernel, on features averaged over space.
    The teacher here is the auxiliary network, larger than the student and of its family; stage 1, which trains the
    auxiliary from a teacher of another family, is the method "pkt" on the pooled features.

    Deviates: the authors transfer without labels (ce=0); ce=1 is how others compare with it.

    Args:
        teacher: the trained auxiliary network, staged.
        student: the staged network to train; the last stages are paired where the counts differ.
        start: w in the first epoch (100).
        decay: of w in each epoch (0.7).
        ce: weight of the labels (1).
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, *, start: float = 100.0, decay: float = 0.7, ce: float = 1.0
    ) -> None:
        super().__init__(teacher, student)
        self.start, self.decay, self.ce = start, decay, ce
        self.pairs = common_stages(self.name, teacher, student)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.pooled", "student.pooled", InformationFlow())
        for theirs, own in self.pairs:
            weight = ExponentialDecay(self.start, self.decay)
            yield Transfer(f"teacher.{theirs}", f"student.{own}", InformationFlow(), weight=weight)
