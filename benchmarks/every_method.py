"""A measurement of every method, written after each one: a command that is repeated goes on with the missing ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attar.accel.runtime import environment
from attar.files import write_json, write_text
from attar.report.method_text import own_names
from attar.report.tables import Table

Results = dict[str, dict[str, Any]]


def measure_every(
    file: Path,
    settings: dict[str, Any],
    only: Sequence[str] | None,
    measured: Callable[[str], dict[str, Any]],
    table: Callable[[Results], Table],
    heading: str,
    what: str,
) -> Results:
    """Measure the methods that a results file lacks, and write it with a table in Markdown beside it.

    Args:
        file: the JSON of the results.
        settings: what all of them share; a file of others is refused.
        only: these methods, measured again.
        measured: of a method's name.
        table: of all results.
        heading: of the Markdown.
        what: stands behind the table's title, in brackets.
    """
    record: dict[str, Any] = {"environment": environment(), "settings": settings, "methods": {}}
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["settings"] != settings:
            raise SystemExit(f"{file} has other settings ({found['settings']}); move it away to begin anew")
        record["methods"] = found["methods"]
    methods: Results = record["methods"]
    for name in only or [name for name in own_names() if name not in methods]:
        methods[name] = measured(name)
        print(name, methods[name], flush=True)
        write_json(file, record)
        results = table(methods)
        write_text(file.with_suffix(".md"), f"# {heading}\n\n{results.title} ({what}).\n\n{results.markdown()}\n")
    return methods
