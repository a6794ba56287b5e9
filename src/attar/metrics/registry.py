"""Metrics by name: what `metrics=` of a recipe chooses from, beside the measures of its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from attar.batch import Batch
from attar.errors import AttarError
from attar.metrics.base import Measure, Metrics
from attar.registry import Registry

# A batch's part of the sums, and the number that follows from all of them.
Sums = Callable[[Tensor, Batch], dict[str, Tensor]]
Compute = Callable[[Mapping[str, Tensor]], float]


@dataclass(frozen=True)
class MetricInfo:
    """A metric that a recipe can name.

    Attributes:
        measure: its name, and how it is printed.
        sums: sums(output, batch) gives tensors that add up over batches, without waiting for the device.
        compute: compute(sums) gives the number of the whole set.
    """

    measure: Measure
    sums: Sums
    compute: Compute

    @property
    def name(self) -> str:
        """The value of metrics=."""
        return self.measure.name


def _metric(name: str, thing: Any) -> MetricInfo:
    """A metric that was given as an object, under its measure's own name.

    Raises:
        AttarError: it is no `MetricInfo`.
    """
    if not isinstance(thing, MetricInfo):
        raise AttarError(f"metric {name!r} is a {type(thing).__name__}; give an attar.metrics.MetricInfo")
    return thing


METRICS: Registry[MetricInfo] = Registry("metric", "attar.metrics.confusion_matrix", _metric)
SumsFunction = TypeVar("SumsFunction", bound=Sums)


def register_metric(
    name: str, *, title: str, compute: Compute, scale: float = 1.0, digits: int = 3, higher: bool = True, note: str = ""
) -> Callable[[SumsFunction], SumsFunction]:
    """Decorator that enters a metric; the function below it gives a batch's sums, see `MetricInfo`.

    Args:
        name: the value of metrics=.
        title: of the column, with its unit ("macro F1 %").
        compute: the number from the sums of all batches.
        scale: what the number is multiplied by for people (100: a fraction becomes per cent).
        digits: how many decimals tables show.
        higher: whether more is better.
        note: what it means, where the title does not show that.

    Raises:
        AttarError: the name is taken.

    >>> @register_metric("sureness", title="sure %", scale=100, compute=lambda sums: float(sums["sure"] / sums["seen"]))
    ... def sureness(output, batch):
    ...     sure = output.softmax(1).amax(1)
    ...     return {"sure": sure.sum(), "seen": sure.new_tensor(len(sure))}
    >>> "sureness" in list_metrics()
    True
    """

    def enter(sums: SumsFunction) -> SumsFunction:
        METRICS.add(MetricInfo(Measure(name, title, scale, digits, higher, note=note), sums, compute))
        return sums

    return enter


def list_metrics(pattern: str = "*") -> list[str]:
    """The registered metrics whose name matches a shell pattern.

    >>> list_metrics("*f1")
    ['macro_f1']
    """
    return METRICS.names(pattern)


class Extended(Metrics):
    """The metrics of a task with registered ones beside them; the task's primary measure still decides.

    Args:
        base: a new metrics object of the task.
        names: of registered metrics.

    Raises:
        AttarError: a name is unknown, or the task has a measure of that name.
    """

    def __init__(self, base: Metrics, names: Sequence[str]) -> None:
        super().__init__()
        known = {measure.name for measure in base.measures}
        if taken := [name for name in names if name in known]:
            raise AttarError(f"metrics={taken[0]}: the task is scored by it already; leave it out")
        self.base, self.further = base, [METRICS[name] for name in names]
        self.measures = (*base.measures, *(one.measure for one in self.further))  # type: ignore[misc]
        self.sample, self.entry, self.joined = base.sample, base.entry, base.joined  # type: ignore[misc]

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        own = {f"{one.name}/{key}": value for one in self.further for key, value in one.sums(output, batch).items()}
        return self.base.sums(output, batch, other) | own

    def compute(self) -> dict[str, float]:
        self.base.totals = self.totals
        return {**self.base.compute(), **self._further()}

    def record(self, count: int) -> dict[str, Any]:
        self.base.totals = self.totals
        return {**self.base.record(count), **self._further()}

    def each(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        return self.base.each(output, batch, other)

    def running(self) -> Metrics:
        return self.base.running()

    def _further(self) -> dict[str, float]:
        return {one.name: one.compute(_under(one.name, self.totals)) for one in self.further}


def _under(name: str, totals: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums of one metric, on the CPU."""
    start = f"{name}/"
    return {key[len(start) :]: value.cpu() for key, value in totals.items() if key.startswith(start)}
