"""FitNet: a hint from the middle of the teacher for the middle of the student."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.losses import MSE
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import Layers, arranged, layer_shapes, require_staged, stage_name, tap_pairs
from attar.methods.registry import register
from attar.models import adapter
from attar.models.surgery.adapters import Kind
from attar.models.surgery.layouts import as_feature


@register(
    "fitnet",
    title="FitNets: Hints for Thin Deep Nets",
    paper="arXiv:1412.6550",
    year=2014,
    family="offline",
    needs=("stages",),
)
class FitNet(Offline):
    """Hints for Thin Deep Nets (Romero et al., ICLR 2015).

    L = ce * CE + weight * MSE(regressor(student's stage), teacher's stage).
    Deviates: hint and labels are learnt together, as the CIFAR-100 literature does; the paper first trains the
    lower half on the hint alone.

    Args:
        teacher: a trained staged network.
        student: the staged network to train.
        stage: which stage is the hint, from 1, or from -1 backwards (2, the middle one).
        weight: of the hint (100).
        ce: weight of the labels (1).
        regressor: how the student's map reaches the teacher's shape ("regressor"); "auto" chooses from the
            two shapes, see `attar.models.adapter` for the other names.
        layers: {student.PATH: teacher.PATH, ...}, in place of one stage; a vector has a linear regressor.
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        stage: int = 2,
        weight: float = 100.0,
        ce: float = 1.0,
        regressor: Kind = "regressor",
        layers: Layers | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        hint = [] if layers else [self._stages(teacher, student, stage)]
        self.pairs = tap_pairs(self.name, teacher, student, layers, hint)
        theirs = layer_shapes(teacher, [pair[0] for pair in self.pairs], image_shape, as_feature, layers)
        own = layer_shapes(student, [pair[1] for pair in self.pairs], image_shape, as_feature, layers)
        self.regressors = nn.ModuleList(
            arranged(_regressor(own[mine], theirs[taught], regressor), layers, as_feature)
            for taught, mine in self.pairs
        )
        self.loss = arranged(MSE(), layers, as_feature)

    def _stages(self, teacher: nn.Module, student: nn.Module, stage: int) -> tuple[str, str]:
        """The taps of one stage of both."""
        theirs = stage_name(self.name, "teacher", require_staged(self.name, "teacher", teacher), stage)
        return theirs, stage_name(self.name, "student", require_staged(self.name, "student", student), stage)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        for (theirs, own), regress in zip(self.pairs, self.regressors, strict=True):
            yield Transfer(f"teacher.{theirs}", f"student.{own}", self.loss, weight=self.weight, via=regress)


def _regressor(own: tuple[int, ...], theirs: tuple[int, ...], kind: Kind) -> nn.Module:
    """To a map as asked for, to a vector by a linear layer."""
    return adapter(own, theirs, kind=kind if len(theirs) == 3 else "auto")
