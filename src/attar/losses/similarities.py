"""Losses between the similarities inside a batch: SP, PKT and CC."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from attar.losses.checks import check_same_batch, check_same_shape
from attar.losses.loss import Loss
from attar.losses.numerics import gram, widen

_EPS = 1e-7


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    """Similarity preserving: ||G_t - G_s||^2 / B^2, G = F F^T with rows of length 1 (Tung and Mori, arXiv:1907.09682).

    Shapes may differ beyond the batch.

    Args:
        student: (B, ...) features, flattened.
        teacher: (B, ...) features, flattened.

    >>> import torch
    >>> F_s = torch.arange(1.0, 17.0).reshape(2, 2, 2, 2) / 10
    >>> F_t = torch.tensor([1.0, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2]).reshape(2, 2, 2, 2) / 4
    >>> round(sp(F_s, F_t).item(), 4)
    0.1133
    """
    check_same_batch(student, teacher)
    similar_s, similar_t = (F.normalize(gram(widen(feature).flatten(1))) for feature in (student, teacher))
    return (similar_s - similar_t).square().mean()


class SimilarityPreserving(Loss):
    """`sp` as a module: loss(student, teacher)."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return sp(learner, source)


def _neighbourhoods(feature: Tensor) -> Tensor:
    """(B, B): each row the probabilities of its neighbours, proportional to (cosine + 1) / 2, itself included."""
    kernel = (gram(F.normalize(widen(feature).flatten(1))) + 1.0) / 2.0
    return kernel / kernel.sum(1, keepdim=True)


def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    """Probabilistic knowledge transfer: the mean of p_t log(p_t / p_s) over the B x B neighbours (arXiv:1803.10837).

    The widths of the two features may differ. 1e-7 is added above and below, as in the authors' code.

    Args:
        student: (B, D_s) embeddings; further dimensions are flattened.
        teacher: (B, D_t) embeddings.

    >>> import torch
    >>> v_s = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]])
    >>> v_t = torch.tensor([[1.0, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 3]])
    >>> round(pkt(v_s, v_t).item(), 4)
    0.0024
    """
    check_same_batch(student, teacher)
    p_s, p_t = _neighbourhoods(student), _neighbourhoods(teacher)
    return (p_t * ((p_t + _EPS) / (p_s + _EPS)).log()).mean()


class PKT(Loss):
    """`pkt` as a module: loss(student, teacher)."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return pkt(learner, source)


def cc(student: Tensor, teacher: Tensor) -> Tensor:
    """Correlation congruence: the mean of <d_i, d_i+1> over the batch, d = |e_s - e_t| (arXiv:1904.01802).

    A batch of one has no neighbours and gives 0.

    Args:
        student: (B, D) embeddings, brought to a common width by linear layers.
        teacher: (B, D) embeddings.

    Deviates: the form of the public benchmark code, not the Gram matrices of the paper.

    >>> import torch
    >>> e_s, e_t = torch.tensor([[1.0, 2], [0, 1], [3, 1]]), torch.tensor([[2.0, 2], [1, 0], [1, 1]])
    >>> cc(e_s, e_t).item()
    1.5
    """
    check_same_shape(student, teacher, "embed both to one width with linear layers")
    gap = (widen(student) - widen(teacher)).abs().flatten(1)
    return (gap[:-1] * gap[1:]).sum() / max(len(gap) - 1, 1)


class CC(Loss):
    """`cc` as a module: loss(student, teacher)."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return cc(learner, source)
