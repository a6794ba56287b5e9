"""ITRD: correlations and mutual information of pooled features, as Renyi entropies."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.losses import CorrelationInformation, MutualInformation
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.models import tap_shapes


@register(
    "itrd",
    title="Information Theoretic Representation Distillation",
    paper="arXiv:2112.00459",
    year=2021,
    family="offline",
    needs=("pooled",),
)
class ITRD(Offline):
    """Information Theoretic Representation Distillation (Miles et al., BMVC 2022), as in the authors' code.

    L = ce * CE + correlation * log2 sum_d |r_d - 1|^(2 alpha) + mutual * (||G_s||^2 - ||G_st||^2): r_d the correlation
    of feature d over the batch, G the Gram matrices of unit features over their traces. The student's pooled features
    pass a linear layer to the teacher's width; the mutual term takes them as they are where the widths agree.

    Args:
        teacher: a trained network.
        student: the network to train.
        correlation: weight of the correlations (2).
        mutual: weight of the mutual information (1 in the authors' command for networks of one kind; 0.05, their
            code's default, for others).
        alpha: order of the entropy (1.01 in that command; 1.5, their code's default, for networks of different kinds).
        ce: weight of the labels (1).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        correlation: float = 2.0,
        mutual: float = 1.0,
        alpha: float = 1.01,
        ce: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.correlation, self.mutual, self.alpha, self.ce = correlation, mutual, alpha, ce
        theirs, own = (tap_shapes(net, ["pooled"], image_shape)["pooled"][0] for net in (teacher, student))
        self.embedding, self.same_width = nn.Linear(own, theirs), own == theirs
        self.student.request("pooled")

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        return known.add("student.embedded", self.embedding(known["student.pooled"]))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.pooled", "student.embedded", CorrelationInformation(self.alpha), self.correlation)
        compared = "student.pooled" if self.same_width else "student.embedded"
        name = "mutual information"
        yield Transfer("teacher.pooled", compared, MutualInformation(), self.mutual, name=name)
