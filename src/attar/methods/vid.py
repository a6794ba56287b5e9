"""VID: the student's maps predict the teacher's, with a variance learnt for each channel."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.losses import VariationalInformation
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import Layers, arranged, layer_shapes, tap_pairs
from attar.methods.registry import register
from attar.models.surgery.adapters import resized
from attar.models.surgery.layouts import as_map


@register(
    "vid",
    title="Variational Information Distillation",
    paper="arXiv:1904.05835",
    year=2019,
    family="offline",
    needs=("stages",),
)
class VID(Offline):
    """Variational Information Distillation for Knowledge Transfer (Ahn et al., CVPR 2019).

    L = ce * CE + weight * sum over stages of mean ((mu(F_s) - F_t)^2 / v + log v) / 2, mu three 1x1 convolutions with
    ReLUs between them, v learnt for each channel from 5.

    Args:
        teacher: a trained staged network.
        student: the staged network to train; the last stages are paired where the counts differ.
        weight: of each stage's term (1).
        ce: weight of the labels (1).
        layers: {student.PATH: teacher.PATH, ...}, in place of the stages of both.
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 1.0,
        ce: float = 1.0,
        layers: Layers | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        self.pairs = tap_pairs(self.name, teacher, student, layers)
        theirs = layer_shapes(teacher, [pair[0] for pair in self.pairs], image_shape, as_map, layers)
        own = layer_shapes(student, [pair[1] for pair in self.pairs], image_shape, as_map, layers)
        regressors = [_regressor(own[mine], theirs[taught]) for taught, mine in self.pairs]
        likelihoods = [VariationalInformation(theirs[taught][0]) for taught, _ in self.pairs]
        self.regressors = nn.ModuleList(arranged(one, layers, as_map) for one in regressors)
        self.losses_of_stages = nn.ModuleList(arranged(one, layers, as_map) for one in likelihoods)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        for (theirs, own), regress, loss in zip(self.pairs, self.regressors, self.losses_of_stages, strict=True):
            yield Transfer(f"teacher.{theirs}", f"student.{own}", loss, weight=self.weight, via=regress)


def _regressor(own: tuple[int, ...], theirs: tuple[int, ...]) -> nn.Sequential:
    """1x1, ReLU, 1x1, ReLU, 1x1 to the teacher's channels, at the teacher's size."""
    (inputs, *old), (outputs, *new) = own, theirs
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 1),
        *resized(old, new),
    )
