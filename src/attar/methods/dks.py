"""DKS: branches at every stage teach each other, pair by pair."""

from __future__ import annotations

from torch import nn

from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.methods.uakd import UAKD
from attar.models import Branch


@register(
    "dks",
    title="Deeply-supervised Knowledge Synergy",
    paper="arXiv:1906.00675",
    year=2019,
    family="self",
    needs=("stages", "branches"),
)
class DKS(UAKD):
    """Deeply-supervised Knowledge Synergy (Sun et al., CVPR 2019).

    L = sum over classifiers CE + alpha * sum over ordered pairs T^2 KL(z_i || z_j), over the network's own classifier
    and those of branches that fork at each stage but the last, with half the depth and the full width.

    Deviates: the shape of the branches follows the paper's rule (shallower, as wide) for any family; weights are 1.

    Args:
        student: the staged network to train and deploy.
        temperature: T (1).
        alpha: weight of every pair (1).
        depth_ratio: blocks of a branch's stages as a share of the student's (0.5).
        width_mult: channels of a branch's stages as a multiple of the student's (1).
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        temperature: float = 1.0,
        alpha: float = 1.0,
        depth_ratio: float = 0.5,
        width_mult: float = 1.0,
    ) -> None:
        last = len(require_staged(self.name, "student", student).stages)
        super().__init__(
            student,
            rule="dks",
            alpha=alpha,
            temperature=temperature,
            ramp=0,
            branches=[Branch(stage, depth_ratio, width_mult) for stage in range(1, last)],
        )
