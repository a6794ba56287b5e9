"""Where encoded images lie: in files of their own, in pieces of larger files, or in memory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Protocol, Self

import numpy as np


class Origin(Protocol):
    """N encoded images, each found by its number; small enough to be handed to the processes that read."""

    def __len__(self) -> int: ...

    def path(self, number: int) -> Path:
        """The file of one image, for messages; of one inside a larger file, that file and its name there."""
        ...

    def open(self, number: int) -> Path | BytesIO:
        """The file of one image, or its bytes; whoever reads it takes any error for an unreadable image."""
        ...

    def subset(self, index: np.ndarray) -> Self:
        """The images at these positions, in this order."""
        ...

    def identity(self) -> tuple[np.ndarray, ...]:
        """What identifies these images: names and sizes in bytes."""
        ...


@dataclass(frozen=True, eq=False)
class Files:
    """An image a file.

    Attributes:
        root: the folder that the names start from.
        names: (N,) the files' names as bytes, which many processes can share without copying.
    """

    root: Path = field(default_factory=Path)
    names: np.ndarray = field(default_factory=lambda: np.zeros(0, "S1"), repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, number: int) -> Path:
        return self.root / os.fsdecode(bytes(self.names[number]))

    def open(self, number: int) -> Path:
        return self.path(number)

    def subset(self, index: np.ndarray) -> Files:
        return replace(self, names=self.names[index])

    def identity(self) -> tuple[np.ndarray, ...]:
        sizes = [self.path(number).stat().st_size for number in range(len(self))]
        return self.names, np.array(sizes, np.int64)


@dataclass(frozen=True, eq=False)
class Encoded:
    """The bytes of image files in memory, from the rows of a table.

    Attributes:
        table: the file that holds the table.
        data: the bytes of all its images, one after another.
        ends: (rows,) where each row's bytes end.
        rows: (N,) the rows that these images are.
    """

    table: Path
    data: np.ndarray = field(repr=False)
    ends: np.ndarray = field(repr=False)
    rows: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, number: int) -> Path:
        return self.table / f"row {int(self.rows[number]) + 1}"

    def open(self, number: int) -> BytesIO:
        return BytesIO(self._piece(int(self.rows[number])))

    def _piece(self, row: int) -> bytes:
        return self.data[self.ends[row - 1] if row else 0 : self.ends[row]].tobytes()

    def subset(self, index: np.ndarray) -> Encoded:
        return replace(self, rows=self.rows[index])

    def identity(self) -> tuple[np.ndarray, ...]:
        pieces = [self._piece(row) for row in self.rows.tolist()]
        return np.array([len(piece) for piece in pieces], np.int64), np.frombuffer(b"".join(pieces), np.uint8)


def files_in(root: Path, names: list[str]) -> Files:
    """Files by their names below a folder.

    >>> str(files_in(Path("pictures"), ["a.png", "b.png"]).path(1))
    'pictures/b.png'
    """
    return Files(root, np.array([os.fsencode(name) for name in names]))
