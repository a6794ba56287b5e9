"""Features on one scale: centred, and turned so that every dimension varies alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attar.errors import AttarError


def equalising(covariance: Tensor) -> Tensor:
    """An orthogonal (D, D) Q for which Q C Q' has the same number all along its diagonal, in float64.

    PHI-S (arXiv:2410.01680) turns to the eigenvectors and then by a Hadamard matrix, of which there is none for many
    widths. D - 1 plane rotations, each of which brings one variance to the mean (Bendel and Mickey, 1978), exist for
    all of them and give the same property.

    >>> turn = equalising(torch.diag(torch.tensor([4.0, 1.0, 1.0])))
    >>> (turn @ torch.diag(torch.tensor([4.0, 1.0, 1.0])).double() @ turn.T).diagonal().round(decimals=6).tolist()
    [2.0, 2.0, 2.0]
    """
    held = covariance.double().clone()
    turn = torch.eye(len(held), dtype=torch.float64)
    target = held.diagonal().mean()
    for _ in range(len(held) - 1):
        excess = held.diagonal() - target
        low, high = int(excess.argmin()), int(excess.argmax())
        under, over, joint = excess[low], excess[high], held[low, high]
        if not float(over) > 1e-12 * float(target):
            break
        # cos^2 a_ll - 2 cos sin a_lh + sin^2 a_hh = target, for the tangent of the smaller angle.
        root = (joint**2 - under * over).clamp_min(0).sqrt()
        tangent = min((joint + root) / over, (joint - root) / over, key=abs)
        cosine = 1 / (1 + tangent**2).sqrt()
        plane = torch.stack([torch.stack([cosine, -tangent * cosine]), torch.stack([tangent * cosine, cosine])])
        pair = torch.tensor([low, high])
        turn[pair] = plane @ turn[pair]
        held[pair] = plane @ held[pair]
        held[:, pair] = held[:, pair] @ plane.T
    return turn


class EqualVariances(nn.Module):
    """y = Q (x - mean) / s: every dimension has variance 1, and all are scaled by one number, so errors count alike.

    Until `fit` was called it changes nothing.

    Args:
        width: D of the features (B, D).

    >>> scale = EqualVariances(2)
    >>> scale.fit(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0], [4.0, 2.0]]))
    >>> scale(torch.tensor([[2.0, 1.0]])).abs().tolist()
    [[0.0, 0.0]]
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("matrix", torch.eye(width))

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Take mean and covariance from features (N, D).

        Raises:
            AttarError: fewer than two rows, or features that do not vary.
        """
        rows = features.detach().double().cpu()
        if len(rows) < 2 or not float(rows.var(0).mean()) > 0:
            raise AttarError("a teacher's features are the same for all images; its weights are missing or damaged")
        covariance = rows.T.cov().reshape(rows.shape[1], rows.shape[1])
        scaled = equalising(covariance) / covariance.diagonal().mean().sqrt()
        self.mean.copy_(rows.mean(0))
        self.matrix.copy_(scaled)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return (features.float() - self.mean) @ self.matrix.T
