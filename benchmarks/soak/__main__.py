"""Break runs until they should fail: the long form of the tests of reliability.

    python benchmarks/soak [--only kills inputs folders ...] [--trials 3] [--out FILE.json]

Each section prints a table; everything goes into a JSON file, and the exit status is 1 where anything did not hold.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before torch is imported: the networks are tiny.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

import caches
import disks
import folders
import images
import inputs
import kills
import memory
import processes
import recipes
import suites
from attar.files import write_json

Rows = list[dict[str, Any]]
SECTIONS: dict[str, tuple[str, Callable[[int, int, Path], Rows]]] = {
    "kills": ("Runs killed in the middle and resumed", kills.rows),
    "caches": ("Teacher caches killed while they are written", caches.rows),
    "inputs": ("Inputs changed between a kill and the resume", inputs.rows),
    "processes": ("Processes beside a command, killed", processes.rows),
    "folders": ("Damaged run folders", folders.rows),
    "disks": ("Full disks", disks.rows),
    "images": ("Folders with broken images", images.rows),
    "memory": ("Memory over many steps", memory.rows),
    "recipes": ("Random recipes", recipes.rows),
    "suites": ("Suites killed at random moments", suites.rows),
    "many": ("A suite of a hundred runs", suites.many_rows),
}


def main() -> None:
    """Every section: its table, and all rows in one file."""
    options = arguments()
    report: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__, "sections": {}}
    for name in options.only:
        title, rows_of = SECTIONS[name]
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            rows = rows_of(options.trials, options.seed, Path(scratch))
        seconds = time.monotonic() - begun
        print(f"\n{title} ({seconds:.0f} s)\n\n{table(rows)}", flush=True)
        report["sections"][name] = {"seconds": round(seconds), "rows": rows}
        write_json(options.out, report)
    broken = [name for name, section in report["sections"].items() if not all(row["passed"] for row in section["rows"])]
    sys.exit(f"did not hold: {', '.join(broken)}" if broken else 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", choices=list(SECTIONS), default=list(SECTIONS), help="these sections")
    parser.add_argument("--trials", type=int, default=3, help="faults of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "soak.json")
    return parser.parse_args()


def table(rows: Rows) -> str:
    """Rows as Markdown."""
    names = [name for name in rows[0] if name != "passed"]
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *([str(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
