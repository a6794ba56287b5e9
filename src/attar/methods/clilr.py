"""CL-ILR: several heads on one trunk learn together, and the trunk's gradient is divided by their number."""

from __future__ import annotations

from torch import nn

from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.methods.uakd import UAKD
from attar.models import Branch


@register(
    "clilr",
    title="Collaborative Learning for Deep Neural Networks",
    paper="arXiv:1805.11761",
    year=2018,
    family="online",
    needs=("stages",),
)
class CLILR(UAKD):
    """Collaborative Learning for Deep Neural Networks (Song and Chai, NeurIPS 2018).

    L = sum over heads CE(z_h) + alpha omega(epoch) * sum over heads T^2 KL(mean of the other heads || z_h), and at each
    fork the gradient that enters the shared layers is divided by the number of heads (ILR).

    Deviates: heads fork at one stage, where the paper also has a tree of several forks; weights 1 and 1 of the two
    terms.

    Args:
        student: the staged network to train and deploy.
        heads: how many more paths fork from it (3).
        temperature: T (3).
        alpha: weight of distillation (1).
        ramp: epochs until its full weight (0: at once).
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        heads: int = 3,
        temperature: float = 3.0,
        alpha: float = 1.0,
        ramp: int = 0,
    ) -> None:
        stage = max(len(require_staged(self.name, "student", student).stages) - 1, 1)
        super().__init__(
            student,
            rule="cl_ilr",
            alpha=alpha,
            temperature=temperature,
            ramp=ramp,
            branches=[Branch(stage, depth_ratio=1.0, width_mult=1.0)] * heads,
            ilr=True,
        )
