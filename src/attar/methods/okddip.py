"""OKDDip: diverse peers attend to each other, and a leader learns from them."""

from __future__ import annotations

from torch import nn

from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.methods.uakd import UAKD
from attar.models import Branch


@register(
    "okddip",
    title="Online Knowledge Distillation with Diverse Peers",
    paper="arXiv:1912.00350",
    year=2019,
    family="online",
    needs=("stages",),
)
class OKDDip(UAKD):
    """Online Knowledge Distillation with Diverse Peers (Chen et al., AAAI 2020), the branch-based form.

    L = sum over paths CE + alpha omega(epoch) * (sum over peers T^2 KL(t_a || z_a) + T^2 KL(mean of peers || leader));
    the target t_a is the peers' logits in shares softmax(query_a . key_b), both linear in the pooled features. The
    leader is deployed. As in the authors' code the targets keep their gradient, so that queries and keys learn.

    Args:
        student: the staged network to train and deploy, the leader.
        peers: how many auxiliary peers fork from it (3).
        temperature: T (3).
        alpha: weight of distillation (1).
        ramp: epochs until its full weight (80 of 300); shorter runs want fewer.
        image_shape: (C, H, W) of one image; by default the network's own.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        peers: int = 3,
        temperature: float = 3.0,
        alpha: float = 1.0,
        ramp: int = 80,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        stage = max(len(require_staged(self.name, "student", student).stages) - 1, 1)
        super().__init__(
            student,
            rule="okddip",
            alpha=alpha,
            temperature=temperature,
            ramp=ramp,
            branches=[Branch(stage, depth_ratio=1.0, width_mult=1.0)] * peers,
            image_shape=image_shape,
        )
