"""LDRLD: relations between the student's largest classes, pair by pair."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register("ldrld", title="Local Dense Relational Logit Distillation", paper="ICCV 2025", year=2025, family="offline")
class LDRLD(Offline):
    """Local Dense Relational Logit Distillation (ICCV 2025).

    L = ce * CE + local * relations among the student's `top` largest classes + rest * KL over the other classes, as
    `attar.losses.logit_relations.local_relations` defines them. Weights of other pairs were not found.

    Args:
        teacher: a trained network.
        student: the network to train.
        top: how many classes (7), or all where there are fewer.
        temperature: T (4).
        local: weight of the relations (10.5 for resnet32x4 to resnet8x4).
        rest: weight of the other classes (7 for that pair).
        ce: weight of the labels (1).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        top: int = 7,
        temperature: float = 4.0,
        local: float = 10.5,
        rest: float = 7.0,
        ce: float = 1.0,
    ) -> None:
        super().__init__(teacher, student)
        self.top, self.temperature, self.local, self.rest, self.ce = top, temperature, local, rest, ce

    def transfers(self) -> Iterable[Transfer]:
        loss = losses.LocalRelations(self.local, self.rest, self.top, self.temperature)
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", loss)
