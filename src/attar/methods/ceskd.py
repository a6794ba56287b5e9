"""CES-KD: easy images are taught by small experts, hard ones by large ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import nn

from attar import losses
from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.methods.common.several_teachers import SeveralTeachers
from attar.methods.common.teacher_rules import ranks, route, unlocked
from attar.methods.registry import register


@register(
    "ceskd",
    title="Curriculum Expert Selection for Knowledge Distillation",
    paper="arXiv:2209.07606",
    year=2022,
    family="offline",
)
class CESKD(SeveralTeachers):
    """CES-KD: Curriculum-based Expert Selection for Guided Knowledge Distillation (Amara et al., ICPR 2022).

    L = (1 - kd) * CE + kd * T^2 KL(p_m || p_s), m one expert for each image. Experts are given from the smallest to the
    largest. An image's difficulty is the rank in its batch of the smallest expert's cross-entropy, from 0 to 1; the
    share of experts in use grows over `pace` epochs to all.

    RECONSTRUCTED: that each image has one expert by its difficulty is the paper's; the score, the rule and every number
    are ours, the weights KD's.

    Args:
        teacher: trained networks, from the smallest to the largest.
        student: the network to train.
        temperature: T (4).
        kd: weight of the experts (0.9).
        pace: epochs until all experts are in use (20).
    """

    def __init__(
        self,
        teacher: nn.Module | Sequence[nn.Module],
        student: nn.Module,
        *,
        temperature: float = 4.0,
        kd: float = 0.9,
        pace: int = 20,
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.kd, self.pace = temperature, kd, pace

    def run(self, batch: Batch) -> Knowledge:
        if batch.labelled is not None or batch.mixed:
            raise AttarError("ceskd ranks images by their own label; leave data.unlabelled and mixed images out")
        known = super().run(batch)
        hardness = F.cross_entropy(self.logits_of(known)[0].float(), batch.labels, reduction="none")
        chosen = route(ranks(hardness, batch), unlocked(batch.address.epoch, self.pace, len(self.names)))
        return known.add("teachers.route", chosen)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=1 - self.kd)
        loss = losses.RoutedKL(self.temperature)
        yield Transfer("teachers.logits", "student.logits", loss, weight=self.kd, given=("teachers.route",))
