"""ONE: branches of one trunk learn from their gated ensemble."""

from __future__ import annotations

from torch import nn

from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.methods.uakd import UAKD
from attar.models import Branch


@register(
    "one",
    title="Knowledge Distillation by On-the-Fly Native Ensemble",
    paper="arXiv:1806.04606",
    year=2018,
    family="online",
    needs=("stages",),
)
class ONE(UAKD):
    """Knowledge Distillation by On-the-Fly Native Ensemble (Lan, Zhu, Gong, NeurIPS 2018).

    L = sum over branches CE(z_b) + CE(z_e) + alpha omega(epoch) * sum over branches T^2 KL(z_e || z_b), where z_e is
    the ensemble whose shares a gate gives for each image, and omega the exponential ramp-up of `ramp` epochs. All
    branches share the trunk up to their fork; the first path is deployed.

    Deviates: the deployed path is one of the branches, as in the authors' code; the gate reads the trunk where they
    fork.

    Args:
        student: the staged network to train and deploy.
        branches: how many more paths fork from it (2; the paper has 3 in all).
        temperature: T (3).
        alpha: weight of distillation (1).
        ramp: epochs until its full weight (80 of 300); shorter runs want fewer.
        image_shape: (C, H, W) of one image; by default the network's own.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        branches: int = 2,
        temperature: float = 3.0,
        alpha: float = 1.0,
        ramp: int = 80,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        stage = max(len(require_staged(self.name, "student", student).stages) - 1, 1)
        super().__init__(
            student,
            rule="one",
            alpha=alpha,
            temperature=temperature,
            ramp=ramp,
            branches=[Branch(stage, depth_ratio=1.0, width_mult=1.0)] * branches,
            image_shape=image_shape,
        )
