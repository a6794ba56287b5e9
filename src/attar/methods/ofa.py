"""OFA-KD: every stage of the student has an exit, and each exit learns the teacher's logits."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import PairError
from attar.knowledge import Knowledge, Transfer
from attar.losses import Boosted
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import classifier_of, tap_shapes


@register(
    "ofa",
    title="One-for-All: Bridge the Gap Between Heterogeneous Architectures",
    paper="arXiv:2310.19444",
    year=2023,
    family="offline",
    needs=("stages", "classifier"),
)
class OFA(Offline):
    """One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation (Hao et al., 2023).

    L = ce * CE + weight * (loss(z_s) + sum over the student's stages of loss(exit_j)), loss the cross-entropy with the
    teacher's logits, the label's own class strengthened (`attar.losses.boosted`). The exit of stage j of S is S - j
    separable convolutions of stride 2, each of twice the channels and the last of as many as the wider network's
    features, for the last stage a 1x1 convolution; then the average and a linear layer. The teacher may be of any kind.
    Exits are left behind after training.

    Deviates: exits are for students whose stages are maps, not for those of tokens. Values of gamma by pair were not
    found.

    Args:
        teacher: a trained network with a linear classifier.
        student: the staged network to train.
        weight: of each exit and of the student's own output (1).
        power: gamma (1; 1.5 for DeiT-T to ResNet18 on ImageNet).
        ce: weight of the labels (1).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: a stage of the student is not a map; in a pass, mixed labels.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 1.0,
        power: float = 1.0,
        ce: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        staged = require_staged(self.name, "student", student)
        super().__init__(teacher, student)
        self.weight, self.power, self.ce = weight, power, ce
        self.stages = [f"stage{number}" for number in range(1, len(staged.stages) + 1)]
        shapes = tap_shapes(student, self.stages, image_shape)
        tokens = [stage for stage in self.stages if len(shapes[stage]) != 3]
        if tokens:
            raise PairError(f"method 'ofa' needs maps, but {tokens[0]} of the student is {shapes[tokens[0]]}")
        width = max(classifier_of(teacher).in_features, staged.classifier.in_features)
        classes, depth = staged.classifier.out_features, len(self.stages)
        self.exits = nn.ModuleList(
            exit_head(shapes[stage][0], width, classes, depth - number) for number, stage in enumerate(self.stages, 1)
        )
        for stage in self.stages:
            self.student.request(stage)

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        for stage, head in zip(self.stages, self.exits, strict=True):
            feature = known[f"student.{stage}"]
            assert isinstance(feature, Tensor)
            known.add(f"student.{stage}.exit", head(feature))
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        for end in ("logits", *(f"{stage}.exit" for stage in self.stages)):
            loss = Boosted(self.power)
            yield Transfer("teacher.logits", f"student.{end}", loss, weight=self.weight, given=("labels",))


def exit_head(inputs: int, width: int, classes: int, halvings: int) -> nn.Sequential:
    """A stage's map to logits by way of `width` features, at half the size a number of times."""
    layers: list[nn.Module] = []
    for number in range(1, halvings + 1):
        outputs = width if number == halvings else 2 * inputs
        layers.append(separable(inputs, outputs))
        inputs = outputs
    if not halvings:
        layers.append(nn.Conv2d(inputs, width, 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def separable(inputs: int, outputs: int) -> nn.Sequential:
    """Twice a depthwise 3x3 and a 1x1 convolution, batch norm and ReLU; the first at stride 2."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride=2, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, inputs, 1, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
