"""ABKD: the alpha-beta divergence in place of KL."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar import losses
from attar.knowledge import Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register(
    "abkd",
    title="Alpha-Beta Divergence for Knowledge Distillation",
    paper="arXiv:2505.04560",
    year=2025,
    family="offline",
)
class ABKD(Offline):
    """ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge Distillation (Wang et al., ICML 2025).

    L = ce * CE + weight * D(p_t || p_s), `attar.losses.alpha_beta` at temperature T without a factor T^2. (alpha, beta)
    = (1, 0) is the forward KL, (0, 1) the reverse. Settings of other pairs were not found.

    Args:
        teacher: a trained network.
        student: the network to train.
        alpha: a (0.8 for resnet56 to resnet20).
        beta: b (0.3 for that pair).
        temperature: T (4).
        weight: of the divergence (32 for that pair).
        ce: weight of the labels (1).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        alpha: float = 0.8,
        beta: float = 0.3,
        temperature: float = 4.0,
        weight: float = 32.0,
        ce: float = 1.0,
    ) -> None:
        super().__init__(teacher, student)
        self.alpha, self.beta, self.temperature, self.weight, self.ce = alpha, beta, temperature, weight, ce

    def transfers(self) -> Iterable[Transfer]:
        loss = losses.AlphaBeta(self.alpha, self.beta, self.temperature)
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.logits", "student.logits", loss, weight=self.weight)
