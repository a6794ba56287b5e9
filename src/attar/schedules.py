"""Weight schedules: called with (epoch from 0, epochs in all), they give the weight of an edge.

A `Transfer` takes one wherever it takes a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

from attar.errors import AttarError, unknown


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

    With `over` the steps are done after so many epochs, and the weight stays.

    >>> [round(Linear(0.0, 0.8)(epoch, 300), 6) for epoch in (0, 149, 299)]
    [0.002667, 0.4, 0.8]
    >>> [Linear(0.0, 1.0, over=20)(epoch, 300) for epoch in (0, 9, 19, 299)]
    [0.05, 0.5, 1.0, 1.0]
    """

    start: float
    end: float
    over: int | None = None

    def __call__(self, epoch: int, epochs: int) -> float:
        over = epochs if self.over is None else self.over
        return self.start + (self.end - self.start) * (min((epoch + 1) / over, 1.0) if over > 0 else 1.0)


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
class CosineDecay:
    """`weight` for `after` epochs, then along half a cosine to 0 in the last one (WKD, after 150 of 240).

    >>> [round(CosineDecay(2)(epoch, 6), 4) for epoch in range(6)]
    [1.0, 1.0, 0.8536, 0.5, 0.1464, 0.0]
    """

    after: int
    weight: float = 1.0

    def __call__(self, epoch: int, epochs: int) -> float:
        done = max(epoch + 1 - self.after, 0) / max(epochs - self.after, 1)
        return self.weight * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


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


@dataclass(frozen=True)
class Between:
    """`weight` in the epochs from `start` on and before `stop`, 0 outside: one step of a schedule by layer.

    >>> [Between(1, 3)(epoch, 4) for epoch in range(4)]
    [0.0, 1.0, 1.0, 0.0]
    """

    start: int
    stop: int
    weight: float = 1.0

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.weight if self.start <= epoch < self.stop else 0.0


@dataclass(frozen=True)
class ByLayer:
    """The weight of one layer's edges where layers learn one after the other, bottom up, and the outputs last.

    With L layers the training has L + 1 spans: one for each layer and, after them, one for the outputs, until the end.
    "progressive" weighs a layer in its own span alone (PID of arXiv:1910.03723), "stacked" in its own and the spans of
    the layers above it (SID). Where the outputs learn, no layer does.

    Attributes:
        kind: "progressive" or "stacked".
        layer: which layer, from 0 at the bottom; `layers` for the outputs.
        layers: how many there are.
        span: epochs of each layer; None: the epochs divided by L + 1, so that what is left over belongs to the outputs.
        weight: the edge's own, inside its span.

    >>> [[ByLayer("stacked", layer, 2)(epoch, 6) for epoch in range(6)] for layer in range(3)]
    [[1.0, 1.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]
    """

    kind: str
    layer: int
    layers: int
    span: int | None = None
    weight: float | WeightSchedule = 1.0

    def __call__(self, epoch: int, epochs: int) -> float:
        span = self._span(epochs)
        last = self.layer == self.layers
        stop = (
            max(epochs, epoch + 1) if last else span * (self.layer + 1 if self.kind == "progressive" else self.layers)
        )
        return value(self.weight, epoch, epochs) if span * self.layer <= epoch < stop else 0.0

    def _span(self, epochs: int) -> int:
        return self.span or max(epochs // (self.layers + 1), 1)

    def check(self, epochs: int) -> None:
        """Refuse a training that ends before the outputs learn.

        Raises:
            AttarError: it does.
        """
        needed = self._span(epochs) * self.layers
        if epochs <= needed:
            raise AttarError(
                f"{self.kind}: {self.layers} layers of {self._span(epochs)} epochs each need {needed} epochs before "
                f"the outputs learn, and there are {epochs}; give epochs={needed + 1} or more, or fewer epochs a layer"
            )


# What a recipe may write for a weight: NAME(argument, ...).
BY_NAME: dict[str, Callable[..., WeightSchedule]] = {
    "warmup": LinearWarmup,
    "linear": Linear,
    "rampup": ExponentialRampUp,
    "decay": ExponentialDecay,
    "cosine": CosineDecay,
    "from": From,
    "until": Until,
    "between": Between,
}


def read_weight(text: str | float | WeightSchedule) -> float | WeightSchedule:
    """A weight as a recipe writes it: a number, or a schedule such as "linear(0, 1, 20)".

    The schedules are warmup(over, weight), linear(start, end, over), rampup(over, weight), decay(start, rate),
    cosine(after, weight), from(epoch, weight), until(epoch, weight) and between(start, stop, weight), see the classes
    of this module.

    Raises:
        AttarError: no finite number and no schedule, or arguments that it does not take.

    >>> read_weight("linear(0, 1, 20)")
    Linear(start=0, end=1, over=20)
    >>> read_weight("0.5")
    0.5
    """
    if callable(text):
        return text
    name, numbers = read_call(text) if isinstance(text, str) else ("", [text])
    if not name and len(numbers) == 1 and _is_finite(numbers[0]):
        return numbers[0]
    if not isinstance(text, str) or _number(text, finite=False) is not None:
        raise AttarError(f"a weight is a finite number or a schedule such as linear(0, 1, 20), got {text!r}")
    if name not in BY_NAME:
        raise unknown("weight schedule", name or text, BY_NAME)
    kind = BY_NAME[name]
    try:
        return kind(*numbers)
    except TypeError:
        takes = ", ".join(field.name for field in fields(kind))  # type: ignore[arg-type]
        raise AttarError(f"{text!r}: {name} takes ({takes}), got {len(numbers)} numbers") from None


def read_call(text: str) -> tuple[str, list[float]]:
    """The name and the numbers of "name(1, 2.5)"; "name" alone has none, and a number alone has no name.

    Raises:
        AttarError: what stands between the brackets is no list of finite numbers.

    >>> read_call("learnt(1, 20)"), read_call("learnt"), read_call("3")
    (('learnt', [1, 20]), ('learnt', []), ('', [3]))
    """
    name, bracket, rest = text.strip().partition("(")
    if not bracket:
        found = _number(name)
        return (name, []) if found is None else ("", [found])
    inner = rest.strip().removesuffix(")")
    numbers = [_number(part) for part in inner.split(",")] if inner.strip() else []
    if not rest.strip().endswith(")"):
        raise AttarError(
            f"{text!r} has no closing bracket; write NAME(number, ...), in quotation marks where it is in {{}} or []"
        )
    if None in numbers:
        raise AttarError(f"{text!r} cannot be read; write NAME(number, ...), for example linear(0, 1, 20)")
    return name.strip(), [number for number in numbers if number is not None]


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def _number(text: str, finite: bool = True) -> float | None:
    """A number in a text, an int where it is written as one; finite unless asked for any."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) or not finite else None


def value(weight: float | WeightSchedule, epoch: int, epochs: int) -> float:
    """A weight at an epoch, whether it is a number or a schedule.

    Raises:
        AttarError: it is no finite number.
    """
    try:
        found = float(weight(epoch, epochs)) if callable(weight) else float(weight)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise AttarError(f"the weight {weight} is {found} in epoch {epoch + 1}; give one that is finite in every epoch")
    return found
