"""PKT: the student keeps the probabilities that two images are neighbours."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register(
    "pkt",
    title="Probabilistic Knowledge Transfer",
    paper="arXiv:1803.10837",
    year=2018,
    family="offline",
    needs=("pooled",),
)
class PKT(Offline):
    """Learning Deep Representations with Probabilistic Knowledge Transfer (Passalis and Tefas, ECCV 2018).

    L = ce * CE + weight * KL of the neighbourhoods: cosine similarities between the images of a batch, each row made
    a distribution. On the pooled features, whose widths may differ.

    Args:
        teacher: a trained network.
        student: the network to train.
        weight: of the neighbourhoods (30000).
        ce: weight of the labels (1).
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, *, weight: float = 30000.0, ce: float = 1.0) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.pooled", "student.pooled", losses.PKT(), weight=self.weight)
