"""Weights that move with the epoch: a ramp is called with (epoch from 0, epochs in all) and gives a factor.

A `Transfer` takes a ramp wherever it takes a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class WeightSchedule(Protocol):
    """A weight as a function of training time."""

    def __call__(self, epoch: int, epochs: int) -> float: ...


@dataclass(frozen=True)
class LinearWarmup:
    """weight * min((epoch + 1) / over, 1): full after `over` epochs (DKD and ReviewKD use 20), at once with 0.

    >>> [LinearWarmup(20)(epoch, 240) for epoch in (0, 9, 19, 100)]
    [0.05, 0.5, 1.0, 1.0]
    """

    over: int = 20
    weight: float = 1.0

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.weight * (min((epoch + 1) / self.over, 1.0) if self.over > 0 else 1.0)


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` in equal steps, `end` in the last epoch: PS-KD's trust in its past predictions.

    >>> [round(Linear(0.0, 0.8)(epoch, 300), 6) for epoch in (0, 149, 299)]
    [0.002667, 0.4, 0.8]
    """

    start: float
    end: float

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.start + (self.end - self.start) * (epoch + 1) / epochs


@dataclass(frozen=True)
class ExponentialRampUp:
    """weight * exp(-5 (1 - min(epoch, over) / over)^2): the ramp-up of ONE and OKDDip (80 of 300 epochs).

    >>> round(ExponentialRampUp(80)(40, 300), 7)
    0.2865048
    """

    over: int = 80
    weight: float = 1.0

    def __call__(self, epoch: int, epochs: int) -> float:
        done = min(epoch / self.over, 1.0) if self.over > 0 else 1.0
        return self.weight * math.exp(-5.0 * (1.0 - done) ** 2)


@dataclass(frozen=True)
class ExponentialDecay:
    """start * rate^epoch: HKD's weight of the early layers, below 1 from its epoch 13 on.

    >>> [round(ExponentialDecay(100.0, 0.7)(epoch, 50), 3) for epoch in (0, 10, 12, 13)]
    [100.0, 2.825, 1.384, 0.969]
    """

    start: float
    rate: float

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.start * self.rate**epoch


@dataclass(frozen=True)
class From:
    """0 before an epoch and `weight` from it on: the labels after an initialisation phase (AB, FSP, FT).

    >>> [From(30)(epoch, 240) for epoch in (0, 29, 30)]
    [0.0, 0.0, 1.0]
    """

    epoch: int
    weight: float = 1.0

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.weight if epoch >= self.epoch else 0.0


@dataclass(frozen=True)
class Until:
    """`weight` before an epoch and 0 from it on: what only an initialisation phase trains.

    >>> [Until(30)(epoch, 240) for epoch in (0, 29, 30)]
    [1.0, 1.0, 0.0]
    """

    epoch: int
    weight: float = 1.0

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.weight if epoch < self.epoch else 0.0


def value(weight: float | WeightSchedule, epoch: int, epochs: int) -> float:
    """A weight at an epoch, whether it is a number or a ramp."""
    return float(weight(epoch, epochs)) if callable(weight) else float(weight)
