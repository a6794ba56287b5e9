"""Redundancy suppression: projected features correlate with the teacher's, dimension by dimension."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.losses.checks import check_positive
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.models import tap_shapes


@register(
    "redundancy",
    title="Redundancy Suppression Distillation",
    paper="ICCV 2025",
    year=2025,
    family="offline",
    needs=("pooled",),
)
class RedundancySuppression(Offline):
    """Cross-Architecture Distillation Made Simple with Redundancy Suppression (ICCV 2025).

    L = ce * CE + weight * (sum (R_dd - 1)^2 + kappa * sum of R_de^2, d != e), R the cross-correlation over the batch of
    the teacher's pooled features and the student's projected ones. Published for teachers of 384 to 768 dimensions:
    the sum grows with them. Not RSD, the self-distillation.

    Args:
        teacher: a trained network.
        student: the network to train.
        kappa: weight of the off-diagonal (0.01).
        expansion: width of the projector's middle as a multiple of the student's (2).
        weight: of the correlation (0.1).
        ce: weight of the labels (1).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        kappa: float = 0.01,
        expansion: int = 2,
        weight: float = 0.1,
        ce: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        check_positive("expansion", expansion)
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        theirs, own = (tap_shapes(net, ["pooled"], image_shape)["pooled"][0] for net in (teacher, student))
        self.kappa = kappa
        self.projector = projector(own, theirs, expansion)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        ends = ("teacher.pooled", "student.pooled")
        yield Transfer(*ends, losses.Redundancy(self.kappa), weight=self.weight, via=self.projector)


def projector(inputs: int, outputs: int, expansion: int) -> nn.Sequential:
    """Linear, batch norm, GELU, linear, without biases; drawn from a truncated normal of deviation 0.02."""
    layers = nn.Sequential(
        nn.Linear(inputs, expansion * inputs, bias=False),
        nn.BatchNorm1d(expansion * inputs),
        nn.GELU(),
        nn.Linear(expansion * inputs, outputs, bias=False),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
    return layers
