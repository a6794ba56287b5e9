"""Parquet files: a table's texts, and images held in a column of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attar.data.sources.from_files import MEMORY_LIMIT
from attar.data.sources.origins import Encoded
from attar.errors import AttarError, first_line
from attar.extras import require

ROWS = 256  # read at a time where rows hold images


class ParquetTable:
    """A Parquet file that lists images, or holds them in a column called image.

    Args:
        file: the Parquet file.

    Raises:
        AttarError: it is no Parquet file, or pyarrow is not installed.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._parquet = require("pyarrow.parquet", "a Parquet table", "parquet")
        self._table = self._reading(lambda: self._parquet.ParquetFile(file))

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""
        return list(self._table.schema_arrow.names)

    @property
    def embedded(self) -> bool:
        """Whether it holds images, and does not only name them."""
        return "image" in self.columns

    def rows(self, columns: list[str]) -> Iterator[dict[str, str | None]]:
        """Every row's texts; what is empty (null, or pandas's NaN) is None."""
        table = self._reading(lambda: self._table.read(columns=columns))
        held = [[_text(value) for value in table.column(name).to_pylist()] for name in columns]
        for values in zip(*held, strict=True):
            yield dict(zip(columns, values, strict=True))

    def images(self) -> Encoded:
        """The encoded images of all rows, in memory.

        Raises:
            AttarError: a row has none, the column holds something else, or they do not fit.
        """
        self._check_type()
        needed = sum(self._size_of_group(group) for group in range(self._table.num_row_groups))
        if needed > MEMORY_LIMIT:
            raise AttarError(
                f"the images in {self.file} take {needed / 1e9:.1f} GB, above the {MEMORY_LIMIT / 1e9:g} GB kept in "
                "memory; put it into a folder of its own and give data=hf data.root=FOLDER, which reads it from disk"
            )
        data, sizes = bytearray(), []
        for number, piece in enumerate(self._pieces()):
            if piece is None:
                raise AttarError(f"{self.file}, row {number + 1}: there is no image; mend or remove the row")
            data += piece
            sizes.append(len(piece))
        return Encoded(
            self.file, np.frombuffer(data, np.uint8), np.cumsum(sizes, dtype=np.int64), np.arange(len(sizes))
        )

    def _pieces(self) -> Iterator[bytes | None]:
        batches = self._reading(lambda: self._table.iter_batches(ROWS, columns=["image"]))
        while (batch := self._reading(lambda: next(batches, None))) is not None:
            for value in batch.column(0).to_pylist():
                yield value["bytes"] if isinstance(value, dict) else value

    def _size_of_group(self, group: int) -> int:
        """Bytes of the image column in a row group, decompressed."""
        held = self._table.metadata.row_group(group)
        columns = [held.column(number) for number in range(held.num_columns)]
        return sum(one.total_uncompressed_size for one in columns if one.path_in_schema.split(".")[0] == "image")

    def _check_type(self) -> None:
        kind = self._table.schema_arrow.field("image").type
        types = require("pyarrow", "a Parquet table", "parquet").types
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if not (types.is_binary(kind) or types.is_large_binary(kind)):
            raise AttarError(
                f"column 'image' of {self.file} is {kind}; expected the bytes of image files, or {{bytes, path}}; "
                "a column of paths is called path"
            )

    def _reading(self, read: Any) -> Any:
        try:
            return read()
        except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are among these
            reason = first_line(error)
            raise AttarError(f"{self.file} cannot be read as a Parquet file ({reason}); save it as one") from None


def _text(value: Any) -> str | None:
    return None if value is None or value != value else str(value)
