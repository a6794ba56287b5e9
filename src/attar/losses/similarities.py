"""Losses between the similarities inside a batch: SP, PKT, HKD's flow of information and CC."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.losses.checks import check_same_batch, check_same_shape
from attar.losses.loss import Loss
from attar.losses.numerics import gram, widen

_EPS = 1e-7
# Keeps the gradient of a distance finite where two images coincide.
_CLOSE = 1e-6


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


def information_flow(student: Tensor, teacher: Tensor) -> Tensor:
    """HKD's divergence of neighbourhoods: Jeffreys, under a cosine and a Student-t kernel (arXiv:2005.00727).

    Each kernel's rows are made distributions; (p - q)(log p - log q) is averaged over all pairs and summed over both
    kernels: (cos + 1) / 2, and 1 / (1 + d) with d the Euclidean distance.

    Args:
        student: (B, D_s) features; maps (B, C, H, W) and tokens (B, N, C) are averaged over places.
        teacher: (B, D_t) features.

    >>> import torch
    >>> V = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]])
    >>> W = torch.tensor([[1.0, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 3]])
    >>> round(information_flow(V, W).item(), 4)
    0.0101
    """
    check_same_batch(student, teacher)
    rows = [_over_places(one) for one in (student, teacher)]
    total = widen(student).new_zeros(())
    for neighbours in (_neighbourhoods, _student_t):
        # An opposite image has no probability at all.
        q, p = (neighbours(one).clamp(min=_EPS) for one in rows)
        total = total + ((p - q) * (p.log() - q.log())).mean()
    return total


def _over_places(feature: Tensor) -> Tensor:
    """(B, C): the mean of a map over space, of tokens (B, N, C) over tokens; vectors as they are."""
    if feature.ndim == 3:
        return feature.mean(1)
    return feature.flatten(2).mean(2) if feature.ndim > 3 else feature


def _student_t(feature: Tensor) -> Tensor:
    """(B, B): each row proportional to 1 / (1 + distance)."""
    rows = widen(feature)
    squares = rows.square().sum(1)
    distances = (squares[:, None] + squares[None] - 2 * gram(rows)).clamp(min=0.0)
    kernel = 1 / (1 + (distances + _CLOSE).sqrt())
    return kernel / kernel.sum(1, keepdim=True)


class InformationFlow(Loss):
    """`information_flow` as a module: loss(student, teacher)."""

    whole_batch: ClassVar[bool] = True  # similarities between images

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return information_flow(learner, source)


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


def linear_cka(left: Tensor, right: Tensor) -> Tensor:
    """Linear centred kernel alignment of two sets of features: ||X^T Y||^2 / (||X^T X|| ||Y^T Y||), a number in 0..1.

    X and Y are the features minus their means over the batch (Kornblith et al., arXiv:1905.00414). It is computed from
    the B x B matrices of inner products, whatever the features' lengths. It is 0 where a set does not vary.

    Args:
        left: (B, ...), flattened.
        right: (B, ...), flattened; its length may differ.

    >>> import torch
    >>> vs = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]])
    >>> vt = torch.tensor([[1.0, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 3]])
    >>> round(linear_cka(vs, vt).item(), 4)
    0.9544
    """
    check_same_batch(left, right)
    first, second = (gram(rows - rows.mean(0)) for rows in (widen(left).flatten(1), widen(right).flatten(1)))
    return (first * second).sum() / (first.norm() * second.norm()).clamp_min(torch.finfo(first.dtype).tiny)
