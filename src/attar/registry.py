"""A table of named things, each with a record that says what it is."""

from __future__ import annotations

import fnmatch
from typing import Generic, Protocol, TypeVar

from attar.errors import AttarError, unknown


class Named(Protocol):
    """What every registered record has."""

    @property
    def name(self) -> str: ...


Record = TypeVar("Record", bound=Named)


class Registry(Generic[Record]):
    """Records by name: no name twice, and an unknown one is answered with the nearest.

    Args:
        kind: what the records are ("method", "network", "data set"), used in error messages.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._records: dict[str, Record] = {}

    def add(self, record: Record) -> None:
        """Enter a record; a name that is taken is refused."""
        if record.name in self._records:
            raise AttarError(f"{self.kind} {record.name!r} is registered already; choose another name")
        self._records[record.name] = record

    def __getitem__(self, name: str) -> Record:
        if name not in self._records:
            raise unknown(self.kind, name, self._records)
        return self._records[name]

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def names(self, pattern: str = "*") -> list[str]:
        """The registered names that match a shell pattern ("*kd*"), sorted."""
        return sorted(fnmatch.filter(self._records, pattern))
