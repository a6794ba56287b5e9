"""DIST+: DIST, and maps that correlate with the teacher's over channels and over the batch."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import common_stages
from attar.methods.registry import register
from attar.models import tap_shapes


@register(
    "distplus",
    title="DIST+: Knowledge Distillation from a Stronger Adaptive Teacher",
    paper="TPAMI 2025",
    year=2025,
    family="offline",
    needs=("stages",),
)
class DISTPlus(Offline):
    """DIST+: Knowledge Distillation from a Stronger Adaptive Teacher (Huang et al., TPAMI 2025).

    L = ce * CE + weight * (DIST + channel * (1 - correlation of channels) + spatial * (1 - correlation of positions)),
    DIST on the logits (`attar.losses.dist`), the other two on the last stage's maps (`attar.losses.map_correlation`).
    Where the channels differ a 1x1 convolution brings the student's to the teacher's.

    Deviates: the public code (torchdistill) adds the correlation of channels where its distance belongs. The paper's
    adaptive teacher was not available; the teacher here is frozen. Defaults are that code's, for ImageNet.

    Args:
        teacher: a trained staged network.
        student: the staged network to train.
        temperature: T of the logits (1).
        beta: weight between classes, within an image (2).
        gamma: weight between images, within a class (2).
        channel: weight of the channels, iota (1).
        spatial: weight of the positions, kappa (1).
        weight: of all four (2).
        ce: weight of the labels (1).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 1.0,
        beta: float = 2.0,
        gamma: float = 2.0,
        channel: float = 1.0,
        spatial: float = 1.0,
        weight: float = 2.0,
        ce: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        self.logits = losses.DIST(beta, gamma, temperature)
        self.maps = losses.MapCorrelation(channel, spatial)
        self.theirs, self.own = common_stages(self.name, teacher, student)[-1]
        outputs = tap_shapes(teacher, [self.theirs], image_shape)[self.theirs][0]
        inputs = tap_shapes(student, [self.own], image_shape)[self.own][0]
        self.projector = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", self.logits, weight=self.weight)
        ends = f"teacher.{self.theirs}", f"student.{self.own}"
        yield Transfer(*ends, self.maps, weight=self.weight, via=self.projector)
