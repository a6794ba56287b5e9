"""metrics.jsonl: one line of JSON per finished epoch, the same for the same run; no times in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attar.records import read_json_lines


def lines(records: list[dict[str, Any]]) -> str:
    """The file's text."""
    return "".join(json.dumps(record) + "\n" for record in records)


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a file; none where it does not exist.

    Raises:
        AttarError: it is damaged.
    """
    return read_json_lines(path, "delete it to go on without") if path.exists() else []
