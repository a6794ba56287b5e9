"""VkD: an orthogonal projection of the student's features, the teacher's normalised."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.models import tap_shapes


@register(
    "vkd",
    title="V_kD: Improving Knowledge Distillation using Orthogonal Projections",
    paper="arXiv:2403.06213",
    year=2024,
    family="offline",
    needs=("pooled",),
)
class VkD(Offline):
    """V_kD: Improving Knowledge Distillation using Orthogonal Projections (Miles, Elezi, Deng, CVPR 2024).

    L = ce * CE + weight * SmoothL1(O f_s, LayerNorm(f_t)), O with orthonormal rows or columns, on the pooled features.
    Deviates: the code trains DeiT students, whose distillation token also learns the teacher's logits; that term is
    left out here, because other students have no such token. For other students the code has no weight.

    Args:
        teacher: a trained network.
        student: the network to train.
        weight: of the features (1, the code's default).
        ce: weight of the labels (1).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 1.0,
        ce: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        theirs, own = (tap_shapes(net, ["pooled"], image_shape)["pooled"][0] for net in (teacher, student))
        self.projector = orthogonal(nn.Linear(own, theirs, bias=False))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        ends = ("teacher.pooled", "student.pooled")
        yield Transfer(*ends, losses.NormalisedSmoothL1(), weight=self.weight, via=self.projector)
