"""The slice of a batch that one process of several works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from attar.batch import Batch
from attar.errors import AttarError


@dataclass
class Part(Batch):
    """The slice of a step's batch that one process of several works on.

    Attributes:
        start: the slice's first row in the batch.
        count: how many rows the batch has.
        gather: joins the processes' rows, where somebody trains in several processes.
    """

    start: int = 0
    count: int = 0
    gather: Callable[[Tensor], Tensor] | None = None

    @property
    def whole(self) -> int:
        return self.count

    def own(self, rows: Tensor) -> Tensor:
        return rows[self.start : self.start + len(self)]

    def all_rows(self, rows: Tensor) -> Tensor:
        if self.gather is None:
            raise AttarError("this part of a batch does not know the other processes; give Objective(method, team)")
        return self.gather(rows)


def part_of(count: int, number: int, parts: int) -> slice:
    """One of several parts of so many rows, in order and as equal as can be.

    >>> [part_of(10, number, 3) for number in range(3)]
    [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """
    return slice(count * number // parts, count * (number + 1) // parts)
