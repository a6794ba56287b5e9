"""BD-KD: two networks learn together, and the student balances both directions of the divergence."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.losses import BalancedDivergence, ReverseKL
from attar.methods.dml import DML
from attar.methods.registry import register


@register("bdkd", title="Balancing the Divergences for Online KD", paper="arXiv:2212.12965", year=2022, family="online")
class BDKD(DML):
    """BD-KD: Balancing the Divergences for Online Knowledge Distillation (Amara et al., 2022).

    A larger peer and the student learn together from scratch:
    L_student = CE + alpha T^2 mean of w_f KL(p_t || p_s) + w_r KL(p_s || p_t), weights by `balanced_divergence`;
    L_peer = CE + beta T^2 KL(p_t || p_s).

    RECONSTRUCTED: that the student mixes both directions with weights from the gap of entropies, and that the peer has
    the reverse one, is the paper's; the weights, delta and T are ours.

    Args:
        student: the network to train and deploy.
        peer: the other network, or the name of one of the zoo; None: one like the student, begun anew.
        delta: weight of the emphasised direction (2).
        temperature: T (1).
        alpha: weight of what the student learns from the peer (1).
        beta: weight of what the peer learns from the student (1).
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        peer: nn.Module | str | None = None,
        delta: float = 2.0,
        temperature: float = 1.0,
        alpha: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        super().__init__(student, peers=1 if peer is None else [peer], temperature=temperature)
        self.delta, self.alpha, self.beta = delta, alpha, beta

    def transfers(self) -> Iterable[Transfer]:
        for learner in self.names:
            yield self.label_edge(learner)
        balanced, reverse = BalancedDivergence(self.delta, self.temperature), ReverseKL(self.temperature)
        yield Transfer("peer1.logits", "student.logits", balanced, weight=self.alpha)
        yield Transfer("student.logits", "peer1.logits", reverse, weight=self.beta)
