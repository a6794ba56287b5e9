"""Trying something with a method without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def unchanged(method: nn.Module) -> Iterator[None]:
    """Weights, statistics and memories as before afterwards, whatever happens; gradients are left where they are.

    >>> net = nn.BatchNorm1d(1)
    >>> with unchanged(net):
    ...     net.running_mean.add_(2).item()
    2.0
    >>> net.running_mean.item()
    0.0
    """
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    try:
        yield
    finally:
        method.load_state_dict(before)
