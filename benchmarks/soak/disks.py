"""Every command that writes, on a disk that takes no file above a size: it works, or ends in one line."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from folders import RECIPE, called, make

# A disk full for the first byte, within a small file, within a report, within weights.
LIMITS = (0, 300, 30_000, 320_000)
ONE = [*RECIPE, "alone=skip"]
WRITERS: dict[str, Callable[[Path], list[str]]] = {
    "distill": lambda at: ["distill", *RECIPE, f"out={at / 'new'}"],
    "distill with a cache": lambda at: ["distill", *ONE, f"teacher.cache={at / 'cache'}", f"out={at / 'new'}"],
    "distill, non-finite": lambda at: ["distill", *ONE, "optim.lr=1e30", f"out={at / 'new'}"],
    "resume": lambda at: ["resume", f"{at / 'broken'}"],
    "report": lambda at: ["report", f"{at / 'run'}"],
    "compare": lambda at: ["compare", f"{at / 'run'}", f"{at / 'two'}", f"out={at / 'c.html'}"],
    "bench": lambda at: ["bench", f"{at / 'suite.yaml'}", f"out={at / 'suite'}"],
    "export safetensors": lambda at: ["export", f"{at / 'run'}", "safetensors", f"out={at / 'export'}"],
    "export pt2": lambda at: ["export", f"{at / 'run'}", "pt2", f"out={at / 'export'}"],
    "export onnx": lambda at: ["export", f"{at / 'run'}", "onnx", f"out={at / 'export'}"],
    "export onnx-int8": lambda at: ["export", f"{at / 'run'}", "onnx-int8", f"out={at / 'export'}"],
    "methods --svg": lambda at: ["methods", "kd", "--svg", f"{at / 'kd.svg'}"],
}


def rows(trials: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """A row a command, whatever `trials`."""
    whole = make(scratch / "whole")
    return [row(name, whole, scratch / "trial") for name in WRITERS]


def row(name: str, whole: Path, at: Path) -> dict[str, Any]:
    """One command on every disk."""
    found = [outcome_of(WRITERS[name], limit, whole, at) for limit in LIMITS]
    wrong = [text for outcome, text in found if outcome == "wrong"]
    print("\n".join(wrong), end="", file=sys.stderr, flush=True)
    counts = {kind: sum(outcome == kind for outcome, _ in found) for kind in ("refused", "works", "wrong")}
    return {"command": name, "tried": len(found), **counts, "passed": not wrong}


def outcome_of(command: Callable[[Path], list[str]], limit: int, whole: Path, at: Path) -> tuple[str, str]:
    """Run a command in a copy of the whole place, in a process of its own."""
    shutil.rmtree(at, ignore_errors=True)
    shutil.copytree(whole, at)
    read, write = os.pipe()
    if not (process := os.fork()):
        with full(limit):
            status, text = called(command(at))
        one_line = status == 2 and "attar: " in text and "Traceback" not in text
        outcome = "works" if status == 0 else "refused" if one_line else "wrong"
        os.write(write, f"{outcome} {text[-2000:]}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        outcome, _, text = pipe.read().decode().partition(" ")
    os.waitpid(process, 0)
    return outcome or "wrong", text


@contextmanager
def full(limit: int) -> Iterator[None]:
    """No file of this process grows above so many bytes: whoever writes it gets an error of the system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
