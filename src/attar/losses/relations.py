"""Relational distillation: the distances between samples, and the angles of triplets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_same_batch
from attar.losses.loss import Loss
from attar.losses.numerics import gram, widen

_TINY = 1e-12
# Samples whose angles fit into a machine's memory; the nodes of a graph may be more.
MOST_ANGLES = 1024


def _distances(points: Tensor) -> Tensor:
    """(B, B) Euclidean distances without the cancellation of the Gram form; the gradient at distance 0 is 0."""
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def _relative_distances(points: Tensor) -> Tensor:
    """(B, B) distances in units of the mean positive one; all 0 where there is none."""
    distances = _distances(points)
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / torch.where(mean > 0, mean, 1.0)


def _cosines(points: Tensor) -> Tensor:
    """(B, B, B): entry i, j, k is the cosine at i between j and k; 0 where one of them coincides with i."""
    # Centring keeps the digits that (x_j - x_i)(x_k - x_i) would lose in the Gram form.
    inner = gram(points - points.mean(0))
    legs = inner.diagonal()[:, None] - inner
    dots = inner[None] - inner[:, :, None] + legs[:, None, :]
    distances = _distances(points)
    apart = distances > _TINY
    inverse = torch.where(apart, 1.0 / torch.where(apart, distances, 1.0), 0.0)
    return dots * inverse[:, :, None] * inverse[:, None, :]


def _points(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    check_same_batch(student, teacher)
    return widen(student).flatten(1), widen(teacher).flatten(1)


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between pairwise distances, each over its own mean positive one (RKD-D, arXiv:1904.05068).

    The widths of the two features may differ. Fewer than two distinct samples give 0.

    Args:
        student: (B, D_s) embeddings; further dimensions are flattened.
        teacher: (B, D_t) embeddings.

    Deviates: the mean over all B x B entries, as in the authors' code, where the paper sums.

    >>> v_s = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]])
    >>> v_t = torch.tensor([[1.0, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 3]])
    >>> round(rkd_distance(v_s, v_t).item(), 4)
    0.0092
    """
    learner, source = _points(student, teacher)
    return F.smooth_l1_loss(_relative_distances(learner), _relative_distances(source))


class RKDDistance(Loss):
    """`rkd_distance` as a module: loss(student, teacher). The authors weight it 25."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return rkd_distance(learner, source)


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the cosines of all triplets of samples (RKD-A, arXiv:1904.05068).

    The widths of the two features may differ. Memory is B x B x B, whatever the width.

    Args:
        student: (B, D_s) embeddings; further dimensions are flattened.
        teacher: (B, D_t) embeddings.

    Deviates: the mean over all B x B x B entries, as in the authors' code, where the paper sums.

    Raises:
        AttarError: there are more than 1,024 samples, whose angles fill 4 GB.

    >>> v_s = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]])
    >>> v_t = torch.tensor([[1.0, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 3]])
    >>> round(rkd_angle(v_s, v_t).item(), 4)
    0.0044
    """
    if len(student) > MOST_ANGLES:
        raise AttarError(
            f"the angles of all triplets of {len(student):,} samples are {4 * len(student) ** 3 / 1e9:,.0f} GB; give "
            "smaller batches, leave them out (method.angle=0), or choose another relation (pkt, sp, cc)"
        )
    learner, source = _points(student, teacher)
    return F.smooth_l1_loss(_cosines(learner), _cosines(source))


class RKDAngle(Loss):
    """`rkd_angle` as a module: loss(student, teacher). The authors weight it 50."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return rkd_angle(learner, source)
