"""WKD-F: the channels of the last map as Gaussians, compared by their Wasserstein distance."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.losses import GaussianWasserstein
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import common_stages
from attar.methods.registry import register
from attar.models import tap_shapes
from attar.schedules import CosineDecay


@register(
    "wkdf",
    title="Wasserstein Distance Distillation of Features",
    paper="arXiv:2412.08139",
    year=2024,
    family="offline",
    needs=("stages",),
)
class WKDF(Offline):
    """Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation (Lv et al., NeurIPS 2024).

    Its feature form: L = ce * CE + weight * mean of (w ||mu_s - mu_t||^2 + ||sd_s - sd_t||^2) over the channels of the
    last stage, the student's brought to the teacher's channels by a 1x1 convolution, and over the cells of a grid.

    Deviates: on ImageNet the authors bring the student's map to the teacher's channels by a bottleneck of 256.

    Args:
        teacher: a trained staged network.
        student: the staged network to train.
        weight: of the distance (0.08; for WRN-40-2 to ShuffleV1 0.3, on ImageNet 0.02 and 0.005, together with WKD-L
            0.08, 0.5, 1 and 0.005).
        mean_weight: w (4, together with WKD-L 8; for WRN-40-2 to ShuffleV1 3, on ImageNet 2).
        ce: weight of the labels (1).
        grid: cells along each side of the map (1, the whole map; 4 for WRN-40-2 to ShuffleV1 and on ImageNet).
        decay_after: epochs after which the weight falls along half a cosine to 0 in the last one (150 of 240 on
            CIFAR-100; 0 or 30 of 100 on ImageNet). A training that is no longer has a constant weight.
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 0.08,
        mean_weight: float = 4.0,
        ce: float = 1.0,
        grid: int = 1,
        decay_after: int = 150,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.mean_weight, self.ce, self.grid = mean_weight, ce, grid
        self.weight = CosineDecay(decay_after, weight)
        self.theirs, self.own = common_stages(self.name, teacher, student)[-1]
        outputs = tap_shapes(teacher, [self.theirs], image_shape)[self.theirs][0]
        inputs = tap_shapes(student, [self.own], image_shape)[self.own][0]
        self.projector = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        loss, ends = GaussianWasserstein(self.mean_weight, self.grid), (f"teacher.{self.theirs}", f"student.{self.own}")
        yield Transfer(*ends, loss, weight=self.weight, via=self.projector)
