"""BYOT: shallow exits learn from the deepest."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.losses import MSE
from attar.methods.common.graph_presets import byot
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.methods.uakd import STUDENT, UAKD
from attar.models import Branch


@register(
    "byot",
    title="Be Your Own Teacher",
    paper="arXiv:1905.08094",
    year=2019,
    family="self",
    needs=("stages", "branches"),
)
class BYOT(UAKD):
    """Be Your Own Teacher (Zhang et al., ICCV 2019).

    L = sum over exits (1 - alpha) CE + sum over shallow exits alpha T^2 KL(deepest || exit) + feature * ||F_exit -
    F||^2 of the pooled features, at the deepest's width. Exits fork at each stage but the last; the full network is
    deployed.

    Deviates: the exits are thin copies of the remaining stages where the paper has bottleneck heads; the deepest exit
    has (1 - alpha) of its cross-entropy too, as in the unofficial code.

    Args:
        student: the staged network to train and deploy.
        temperature: T (3).
        alpha: share of the distillation at each exit (0.1, unofficial code).
        feature: weight of the features (1e-6, unofficial code).
        depth_ratio: blocks of an exit's stages as a share of the student's (0.25).
        width_mult: channels of an exit's stages as a multiple of the student's (1).
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        temperature: float = 3.0,
        alpha: float = 0.1,
        feature: float = 1e-6,
        depth_ratio: float = 0.25,
        width_mult: float = 1.0,
    ) -> None:
        last = len(require_staged(self.name, "student", student).stages)
        super().__init__(
            student,
            rule="byot",
            temperature=temperature,
            ramp=0,
            branches=[Branch(stage, depth_ratio, width_mult) for stage in range(1, last)],
            feature_weight=feature,
        )
        self.plan = byot([STUDENT, *self.net.forks], temperature, alpha)

    def transfers(self) -> Iterable[Transfer]:
        yield from self.plan.transfers()
        for name in self.projections:
            yield Transfer("student.projected", f"{name}.projected", MSE("batchmean"), weight=self.feature_weight)
