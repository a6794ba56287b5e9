"""FitNet: a hint from the middle of the teacher for the middle of the student."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.losses import MSE
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.methods.stage_pairs import require_staged, stage_name
from attar.models import adapter, tap_shapes
from attar.models.surgery.adapters import Kind


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
        regressor: how the student's map reaches the teacher's shape: "auto" chooses from the two shapes, see
            `attar.models.adapter` for the other names.
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
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        self.theirs = stage_name(self.name, "teacher", require_staged(self.name, "teacher", teacher), stage)
        self.own = stage_name(self.name, "student", require_staged(self.name, "student", student), stage)
        learner = tap_shapes(student, [self.own], image_shape)[self.own]
        source = tap_shapes(teacher, [self.theirs], image_shape)[self.theirs]
        self.regressor = adapter(learner, source, kind=regressor)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer(f"teacher.{self.theirs}", f"student.{self.own}", MSE(), weight=self.weight, via=self.regressor)
