"""metrics.jsonl: one line of JSON per finished epoch, the same for the same run; no times in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def lines(records: list[dict[str, Any]]) -> str:
    """The file's text."""
    return "".join(json.dumps(record) + "\n" for record in records)


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a file; none where it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
