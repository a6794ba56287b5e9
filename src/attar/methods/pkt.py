"""PKT: the student keeps the probabilities that two images are neighbours."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import POOLED, Layers, arranged, tap_pairs
from attar.methods.registry import register
from attar.models.surgery.layouts import as_vector


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
        layers: {student.PATH: teacher.PATH, ...}, averaged over space, in place of the pooled features.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 30000.0,
        ce: float = 1.0,
        layers: Layers | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        self.pairs = tap_pairs(self.name, teacher, student, layers, POOLED)
        self.loss = arranged(losses.PKT(), layers, as_vector)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        for theirs, own in self.pairs:
            yield Transfer(f"teacher.{theirs}", f"student.{own}", self.loss, weight=self.weight)
