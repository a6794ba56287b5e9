"""What a task is scored by: sums that add up over batches and processes, and the numbers that follow from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.metrics.accuracy import evaluating, output_of

# Sums are float64, which these devices lack: outputs of theirs are scored on the CPU.
WITHOUT_FLOAT64 = {"mps"}


def to_be_scored(output: Tensor, batch: Batch, other: Tensor | None = None) -> tuple[Tensor, Batch, Tensor | None]:
    """Outputs and their batch where float64 is: on their device, or on the CPU."""
    if output.device.type not in WITHOUT_FLOAT64:
        return output, batch, other
    return output.cpu(), batch.to("cpu"), None if other is None else other.cpu()


def counted(amount: float, what: str) -> float:
    """How much counts, the denominator of means.

    Args:
        amount: the sum of the weights.
        what: what they are of: "tokens".

    Raises:
        AttarError: it is 0.
    """
    if not amount:
        raise AttarError(f"none of the {what} counts: every Batch.weight is 0; give some that count")
    return amount


@dataclass(frozen=True)
class Measure:
    """One number a task is scored by, and how it is printed.

    Attributes:
        name: its key in `Metrics.compute` ("top1", "perplexity", "mae").
        title: what tables and plots call it, with its unit ("top-1 %").
        scale: what the number is multiplied by for people (100: a fraction becomes per cent).
        digits: how many decimals tables show.
        higher: whether more is better.
        column: whether tables have a column of it.
        watched: whether it is computed on the validation set after every epoch; the primary one always is.
        share: whether it is the share of the samples that are right, so that one run has Wilson's interval.
        note: what the number means, where its title does not show that.

    >>> Measure("top1", "top-1 %", 100, 2, higher=True).text(0.5)
    '50.00'
    """

    name: str
    title: str
    scale: float = 1.0
    digits: int = 3
    higher: bool = False
    column: bool = True
    watched: bool = False
    share: bool = False
    note: str = ""

    @property
    def label(self) -> str:
        """The title without its unit."""
        return self.title.removesuffix(" %")

    @property
    def points(self) -> str:
        """What differences are counted in: points of per cent, or the measure itself and which way is better."""
        if self.title.endswith(" %"):
            return "points"
        return self.label if self.higher else f"{self.label}, less is better"

    def text(self, number: float) -> str:
        """A number as tables show it."""
        return f"{self.scale * number:.{self.digits}f}"

    def phrase(self, number: float) -> str:
        """A number with its name and unit, for a sentence; it is scaled already.

        >>> Measure("top1", "top-1 %", 100, 2, higher=True).phrase(50.0), Measure("mae", "MAE", 1, 1).phrase(2.0)
        ('top-1 50.00 %', 'MAE 2.0')
        """
        return f"{self.label} {self.value(number)}"

    def value(self, number: float) -> str:
        """A number with its unit; it is scaled already."""
        return f"{number:.{self.digits}f}" + (" %" if self.title.endswith(" %") else "")

    def better(self, number: float, other: float | None) -> bool:
        """Whether one number is better than another; NaN never is, and anything else is better than none."""
        if number != number:
            return False
        return other is None or other != other or (number > other if self.higher else number < other)


@dataclass(frozen=True)
class Scoring:
    """How the networks of a run are scored, as tables and reports need it.

    Attributes:
        measures: what is computed; the first is the primary one, which decides.
        sample: what one sample is called ("image", "sequence", "graph").
        entry: what the scores count where that is not samples: "node" of graphs.

    >>> Scoring((Measure("mae", "MAE"),), "image").primary.name
    'mae'
    """

    measures: tuple[Measure, ...]
    sample: str
    entry: str = ""

    @property
    def primary(self) -> Measure:
        """The measure that decides."""
        return self.measures[0]

    @property
    def samples(self) -> str:
        """Several samples."""
        return f"{self.sample}s"

    @property
    def entries(self) -> str:
        """Several of what the scores count."""
        return f"{self.entry or self.sample}s"

    def columns(self, scores: Iterable[Mapping[str, Any]]) -> list[Measure]:
        """The measures that a table of these scores has columns for: the primary one, and others somebody has."""
        held = {name for one in scores for name, value in one.items() if value is not None}
        return [one for one in self.measures if one is self.primary or (one.column and one.name in held)]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Scoring:
        """What `to_json` wrote."""
        return cls(tuple(Measure(**one) for one in tree["measures"]), tree["sample"], tree.get("entry", ""))


class Metrics(ABC):
    """The scores of one network on a set: `update` after every batch, `compute` at the end.

    Everything is held as sums on the device, so that batches of any size and several processes give the number of one
    pass over the whole, a resumed pass goes on from its sums, and no batch waits for the device.

    Attributes:
        measures: what is computed; the first is the primary one, by which the best weights are chosen.
        sample: what one sample is called ("image", "sequence", "graph").
        entry: what the scores count where that is not samples: "node" of graphs.
        joined: the sums that are rows to be kept side by side and not added up, for measures that rank all rows.
        totals: the sums until now, by name.
    """

    measures: ClassVar[tuple[Measure, ...]]
    sample: ClassVar[str] = "sample"
    joined: ClassVar[frozenset[str]] = frozenset()
    entry: ClassVar[str] = ""

    def __init__(self, totals: Mapping[str, Tensor] | None = None) -> None:
        self.totals: dict[str, Tensor] = dict(totals or {})

    @property
    def primary(self) -> Measure:
        """The measure that decides."""
        return self.measures[0]

    @property
    def scoring(self) -> Scoring:
        """The measures and what a sample is called, without any numbers."""
        return Scoring(self.measures, self.sample, self.entry)

    @property
    def watched(self) -> list[Measure]:
        """The measures that are computed after every epoch, the primary one first."""
        return [one for one in self.measures if one is self.primary or one.watched]

    def update(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> None:
        """Count one batch.

        Args:
            output: what the network put out.
            batch: the batch, with its labels and weight.
            other: what the teacher put out, where the two are compared.
        """
        for name, amount in self.sums(*to_be_scored(output, batch, other)).items():
            # Those of a resumed pass come from the CPU.
            total = self.totals.get(name)
            if total is None:
                self.totals[name] = amount
            else:
                total = total.to(amount.device)
                self.totals[name] = torch.cat([total, amount]) if name in self.joined else total + amount

    @abstractmethod
    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        """What adds up over batches, or is `joined`, of one batch; nothing here may wait for the device."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Each measure from the sums until now; this waits for the device.

        Raises:
            AttarError: nothing was counted yet.
        """

    def record(self, count: int) -> dict[str, Any]:
        """What is kept of a measured network: how many samples there were, each measure, and what only one task has."""
        return {"count": count, **self.compute()}

    def each(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        """The part of `Predictions` that a batch makes; nothing where a task keeps no predictions."""
        return {}

    def running(self) -> Metrics:
        """A metrics object for every step of training: the same kind, or only what costs little."""
        return type(self)()


def score(
    net: nn.Module, batches: Iterable[Batch], metrics: Metrics, teacher: nn.Module | None = None
) -> dict[str, float]:
    """Measure a network on batches of any sizes. The device is read once, at the end.

    Args:
        net: called with the inputs.
        batches: of the task that the metrics belong to.
        metrics: what to compute; its sums grow.
        teacher: compared with the network on the same inputs.

    Raises:
        AttarError: there are no batches.
    """
    count = 0
    with evaluating(net, *([teacher] if teacher is not None else [])):
        for batch in batches:
            other = None if teacher is None else output_of(teacher, batch.inputs)
            metrics.update(output_of(net, batch.inputs), batch, other)
            count += len(batch)
    if not count:
        raise AttarError("there are no samples to measure; give at least one batch")
    return metrics.compute()
