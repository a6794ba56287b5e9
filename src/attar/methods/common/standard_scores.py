"""Features with mean 0 and deviation 1 in every channel, from running sums: maps of many images need not be held."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attar.errors import AttarError
from attar.losses.numerics import widen

# Of UNIC's code, added to the deviation.
SMALL = 1e-6


class StandardScores(nn.Module):
    """(x - mean) / (deviation + 1e-6) for each channel of (B, D) or (B, D, H, W), over images and space.

    Until `settle` was called it changes nothing.

    Args:
        width: D.

    >>> scores = StandardScores(1)
    >>> for part in ([[1.0]], [[3.0]]):
    ...     scores.see(torch.tensor(part))
    >>> scores.settle()
    >>> round(scores(torch.tensor([[3.0]])).item(), 3)
    0.707
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self._sums = torch.zeros(3, width, dtype=torch.float64)  # of ones, values and squares

    @torch.no_grad()
    def see(self, features: Tensor) -> None:
        """Count these features in."""
        values = features.double().cpu().movedim(1, -1).flatten(0, -2)
        self._sums += torch.stack([torch.ones_like(values).sum(0), values.sum(0), values.square().sum(0)])

    def settle(self) -> None:
        """Take mean and deviation from what was seen, and forget it.

        Raises:
            AttarError: fewer than two values a channel, or none that vary.
        """
        count, total, squares = self._sums
        variance = (squares - total.square() / count) / (count - 1)
        if count[0] < 2 or not float(variance.max()) > 1e-12 * float(squares.max() / count[0]):
            raise AttarError("a teacher's features are the same for all images; its weights are missing or damaged")
        self.mean.copy_(total / count)
        self.deviation.copy_(variance.clamp_min(0).sqrt())
        self._sums.zero_()

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            shape = (-1, *[1] * (features.ndim - 2))
            return (widen(features) - self.mean.view(shape)) / (self.deviation.view(shape) + SMALL)
