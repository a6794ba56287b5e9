"""A tether: the squared distance of a network's weights from where they started."""

from __future__ import annotations

import torch
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_same_shape
from attar.losses.loss import Loss
from attar.losses.numerics import widen


def l2_to_start(parameters: tuple[Tensor, ...], starts: tuple[Tensor, ...]) -> Tensor:
    """The sum of squared differences to the starting weights: ATSC's tether (arXiv:2406.08528).

    A plain sum, neither halved nor averaged: its gradient is 2 (theta - theta_0).

    Args:
        parameters: the weights as they are.
        starts: the weights as they were, one for one.

    Raises:
        AttarError: there are no weights, or the two do not match.

    >>> l2_to_start((torch.ones(2, 3), torch.ones(1)), (torch.zeros(2, 3), torch.full((1,), 3.0))).item()
    10.0
    """
    if not parameters or len(parameters) != len(starts):
        raise AttarError(f"{len(parameters)} weights against {len(starts)} starts; give one start for each weight")
    for weight, start in zip(parameters, starts, strict=True):
        check_same_shape(weight, start, "take the starts from the same network")
    moved = [(widen(weight) - widen(start)).square().sum() for weight, start in zip(parameters, starts, strict=True)]
    return torch.stack(moved).sum()


class L2ToStart(Loss):
    """`l2_to_start` as a module: loss(parameters, starts)."""

    def forward(self, learner: tuple[Tensor, ...], source: tuple[Tensor, ...]) -> Tensor:
        return l2_to_start(learner, source)
