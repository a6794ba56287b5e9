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
    last stage, the student's brought to the teacher's channels by a 1x1 convolution.

    Deviates: one cell, the whole map; some published pairs divide it into 4x4. The weight is constant; the paper's
    decays by a cosine after epoch 150 of 240.

    Args:
        teacher: a trained staged network.
        student: the staged network to train.
        weight: of the distance (0.08).
        mean_weight: w (4; 2 or 3 for other pairs).
        ce: weight of the labels (1).
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
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.mean_weight, self.ce = weight, mean_weight, ce
        self.theirs, self.own = common_stages(self.name, teacher, student)[-1]
        outputs = tap_shapes(teacher, [self.theirs], image_shape)[self.theirs][0]
        inputs = tap_shapes(student, [self.own], image_shape)[self.own][0]
        self.projector = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        loss, ends = GaussianWasserstein(self.mean_weight), (f"teacher.{self.theirs}", f"student.{self.own}")
        yield Transfer(*ends, loss, weight=self.weight, via=self.projector)
