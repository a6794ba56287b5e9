"""DGKD: all larger networks teach at once, some of them dropped for each batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from attar import losses
from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.methods.common.several_teachers import SeveralTeachers
from attar.methods.registry import register


@register("dgkd", title="Densely Guided Knowledge Distillation", paper="arXiv:2009.08825", year=2021, family="offline")
class DGKD(SeveralTeachers):
    """Densely Guided Knowledge Distillation using Multiple Teacher Assistants (Son et al., ICCV 2021).

    L = (1 - kd) * CE + kd * sum over the kept teachers of T^2 KL(p_k || p_s). Teachers are the large network and the
    assistants that were trained from it in order of size. For each batch `drop` of them are dropped (the released
    code), or each is kept with probability `keep`, at least one (the paper, best at 0.75).

    Deviates: the released code averages KL over classes too, which makes it smaller by the number of classes.

    Args:
        teacher: trained networks, teacher=large,assistant,...
        student: the network to train.
        temperature: T (5).
        kd: weight of the teachers (1: no labels, as released).
        drop: how many teachers each batch goes without (1 as released; fewer where there are too few).
        keep: probability that a teacher stays, in place of `drop` (none; 0.75 in the paper).
    """

    def __init__(
        self,
        teacher: nn.Module | Sequence[nn.Module],
        student: nn.Module,
        *,
        temperature: float = 5.0,
        kd: float = 1.0,
        drop: int = 1,
        keep: float | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.kd, self.drop, self.keep = temperature, kd, drop, keep
        if keep is not None and not 0 < keep <= 1:
            raise AttarError(f"dgkd: keep={keep} is no probability; give a number above 0 and at most 1")

    def run(self, batch: Batch) -> Knowledge:
        return super().run(batch).add("teachers.kept", self.kept(batch))

    def kept(self, batch: Batch) -> Tensor:
        """(teachers,): 1 for those that teach this batch."""
        count = len(self.names)
        draws = torch.rand(count, generator=batch.rng("drop"), device=batch.device)
        order = draws.argsort()
        if self.keep is None:
            chosen = torch.zeros_like(draws)
            return chosen.index_fill(0, order[: max(count - self.drop, 1)], 1.0)
        # Of those drawn, the smallest draw stays whatever the probability.
        return (draws < self.keep).to(draws).index_fill(0, order[:1], 1.0)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=1 - self.kd)
        loss = losses.DenselyGuidedKL(self.temperature)
        yield Transfer("teachers.logits", "student.logits", loss, weight=self.kd, given=("teachers.kept",))
