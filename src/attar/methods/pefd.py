"""PEFD: several projectors, averaged, bring the student's features to the teacher's."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attar import losses
from attar.knowledge import Transfer
from attar.losses.checks import check_positive
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.models import tap_shapes


@register(
    "pefd",
    title="Projector Ensemble Feature Distillation",
    paper="arXiv:2210.15274",
    year=2022,
    family="offline",
    needs=("pooled",),
)
class PEFD(Offline):
    """Improved Feature Distillation via Projector Ensemble (Chen et al., NeurIPS 2022).

    L = ce * CE + weight * mean of 1 - cos(mean over k of ReLU(W_k f_s), f_t), on the pooled features.

    Args:
        teacher: a trained network.
        student: the network to train.
        projectors: how many (3).
        weight: of the distance (25).
        ce: weight of the labels (1).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        projectors: int = 3,
        weight: float = 25.0,
        ce: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        check_positive("projectors", projectors)
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        theirs, own = (tap_shapes(net, ["pooled"], image_shape)["pooled"][0] for net in (teacher, student))
        self.projector = Ensemble(own, theirs, projectors)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        ends = ("teacher.pooled", "student.pooled")
        yield Transfer(*ends, losses.CosineDistance(), weight=self.weight, via=self.projector)


class Ensemble(nn.Module):
    """The mean of several linear layers with ReLU; each is drawn on its own."""

    def __init__(self, inputs: int, outputs: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([layer(x).relu() for layer in self.layers]).mean(0)
