"""The loss between attention distributions of transformers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attar.errors import AttarError, PairError
from attar.losses.checks import check_same_shape
from attar.losses.loss import Loss
from attar.losses.numerics import widen


def attention_kl(student_attention: Tensor, teacher_attention: Tensor) -> Tensor:
    """KL(A_t || A_s) of attention distributions, the mean over heads, tokens and the batch (arXiv:1910.03723).

    Rows that are all zero are those of padding and do not count: a sentence's mean is over its own tokens, and the
    batch's mean over sentences.

    Args:
        student_attention: (B, heads, N, N) probabilities, each row over the tokens it attends to.
        teacher_attention: of the same shape.

    Raises:
        AttarError: the shapes differ, in the number of heads say.

    >>> A_t = torch.tensor([[[[0.7, 0.3], [0.4, 0.6]]]])
    >>> A_s = torch.tensor([[[[0.5, 0.5], [0.2, 0.8]]]])
    >>> round(attention_kl(A_s, A_t).item(), 6)
    0.093466
    """
    if student_attention.ndim != 4:
        raise AttarError(f"attention has shape {tuple(student_attention.shape)}, expected (B, heads, N, N)")
    check_same_shape(
        student_attention, teacher_attention, "choose a student with the teacher's number of heads", PairError
    )
    learner, source = widen(student_attention), widen(teacher_attention)
    # Tokens that nothing attends to have probability 0 in both: 0 log 0 is 0.
    least = torch.finfo(source.dtype).tiny
    terms = (source * (source.clamp_min(least).log() - learner.clamp_min(least).log())).sum((1, 3))
    tokens = (source[:, 0].sum(-1) > 0).sum(-1).clamp_min(1)
    return (terms.sum(-1) / (source.shape[1] * tokens)).mean()


@dataclass(eq=False, repr=False)
class AttentionKL(Loss):
    """`attention_kl` as a module: loss(student_attention, teacher_attention)."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return attention_kl(learner, source)
