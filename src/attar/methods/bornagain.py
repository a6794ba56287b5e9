"""Born-again networks: a network is trained anew from a trained one of its own kind."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attar import losses
from attar.batch import Batch
from attar.errors import unknown
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Offline
from attar.methods.registry import register

VARIANTS = ("ban", "cwtm", "dkpp")


@register("bornagain", title="Born-Again Neural Networks", paper="arXiv:1805.04770", year=2018, family="offline")
class BornAgain(Offline):
    """Born-Again Neural Networks (Furlanello et al., ICML 2018): one generation.

    The teacher is a trained network of the student's own kind (another kind works too, and is then ordinary
    distillation). For the next generation give the trained student as the teacher.
    "ban": L = ce * CE + kd * T^2 KL(p_t || p_s).
    "cwtm": L = the labels' cross-entropy, each image weighed by the teacher's confidence.
    "dkpp": L = ce * CE + kd * T^2 KL to the teacher's predictions, whose classes but the largest are permuted at random
    for each image of each step.
    The latter two show how much of the gain is confidence, and how much the likeness of classes.

    Temperature and weights are not in our reading of the paper; 1, 1 and 1 are ours.

    Args:
        teacher: a trained network, of the student's kind.
        student: the network to train.
        variant: "ban", "cwtm" or "dkpp".
        temperature: T (1).
        ce: weight of the labels (1; "cwtm": of its only term).
        kd: weight of the teacher (1; "cwtm" has none).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        variant: str = "ban",
        temperature: float = 1.0,
        ce: float = 1.0,
        kd: float = 1.0,
    ) -> None:
        super().__init__(teacher, student)
        if variant not in VARIANTS:
            raise unknown("variant of bornagain:", variant, VARIANTS)
        self.variant, self.temperature, self.ce, self.kd = variant, temperature, ce, kd

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        if self.variant != "dkpp":
            return known
        logits = known["teacher.logits"]
        assert isinstance(logits, Tensor)
        shape = (batch.whole, logits.shape[1] - 1)
        draws = torch.rand(shape, generator=batch.rng("permutation"), device=batch.device)
        return known.add("teacher.order", batch.own(draws.argsort(1)))

    def transfers(self) -> Iterable[Transfer]:
        ends = ("teacher.logits", "student.logits")
        if self.variant == "cwtm":
            yield Transfer(*ends, losses.ConfidenceWeightedCE(), weight=self.ce, given=("labels",))
            return
        yield self.label_edge(weight=self.ce)
        if self.variant == "ban":
            yield self.output_edge("teacher", "student", self.temperature, self.kd)
        else:
            loss = losses.PermutedKL(self.temperature)
            yield Transfer(*ends, loss, weight=self.kd, given=("teacher.order",))
