"""What born-again networks take from a teacher besides its predictions: its confidence, or their shape alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_logits, label_mask
from attar.losses.loss import Loss
from attar.losses.numerics import log_probabilities, widen
from attar.losses.responses import cross_entropy, kl_divergence


def confidence_weighted_ce(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """CWTM: cross-entropy with the labels, each image weighed by the teacher's largest probability (arXiv:1805.04770).

    The weights are divided by their sum over the batch.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        labels: (B,) class numbers.

    >>> import torch
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(confidence_weighted_ce(S, T, torch.tensor([0, 1])).item(), 4)
    0.3285
    """
    check_logits(student_logits, teacher_logits)
    label_mask(student_logits, labels)
    confidence = log_probabilities(teacher_logits).amax(1).exp()
    return cross_entropy(student_logits, labels, reduction="mean", weight=confidence)


@dataclass(eq=False, repr=False)
class ConfidenceWeightedCE(Loss):
    """`confidence_weighted_ce` as a module: loss(student_logits, teacher_logits, labels)."""

    whole_batch: ClassVar[bool] = True  # weights are shares of the batch's sum

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor) -> Tensor:
        return confidence_weighted_ce(learner, source, labels)


def permuted(logits: Tensor, order: Tensor) -> Tensor:
    """DKPP: each row's logits in another order, all but the largest, which stays where it is (arXiv:1805.04770).

    Args:
        logits: (B, K).
        order: (B, K - 1) a permutation of 0..K-2 for each row.

    >>> import torch
    >>> permuted(torch.tensor([[1.0, 5.0, 2.0, 3.0]]), torch.tensor([[2, 0, 1]])).tolist()
    [[3.0, 5.0, 1.0, 2.0]]
    """
    if order.shape != (len(logits), logits.shape[1] - 1):
        raise AttarError(
            f"the order has shape {tuple(order.shape)} for logits {tuple(logits.shape)}; give one permutation of all "
            "classes but one a row"
        )
    logits = widen(logits)
    top = logits.argmax(1, keepdim=True)
    # Numbers of the other classes: those from the largest on are one further.
    rest, taken = ((places + (places >= top)) for places in (torch.arange(order.shape[1]).to(top), order))
    return logits.scatter(1, rest, logits.gather(1, taken))


@dataclass(eq=False, repr=False)
class PermutedKL(Loss):
    """T^2 KL to the teacher's `permuted` predictions: loss(student_logits, teacher_logits, order)."""

    temperature: float = 1.0

    def forward(self, learner: Tensor, source: Tensor, order: Tensor) -> Tensor:
        return kl_divergence(learner, permuted(source, order), self.temperature)
