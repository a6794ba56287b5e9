"""A training of ten thousand steps, which fills a teacher's cache or reads it, and its memory on the way."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from commands import STUDENT, start, trained_teacher

EPOCHS, STEPS = 200, 50
RECIPE = [*STUDENT, "method=kd", f"epochs={EPOCHS}", f"data.train_size={16 * STEPS}", "data.val_fraction=0"]
# A part of the steps in which allocators and caches fill, and what is called growth after it.
WARM_UP, GROWTH = 0.2, 50.0
COLUMNS = ("teacher cache", "steps", "MB after warm-up", "MB at the end", "KB more in 1,000 steps")


def rows(trials: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """Two rows, whatever `trials`: the first run fills the cache, the second reads it."""
    recipe = ["distill", *RECIPE, *trained_teacher(scratch), f"teacher.cache={scratch / 'cache'}", f"seed={seed}"]
    return [row(state, recipe, scratch / state) for state in ("filled", "read")]


def row(state: str, recipe: list[str], folder: Path) -> dict[str, Any]:
    """One run's."""
    seen = watched(start([*recipe, f"out={folder}"]), folder / "metrics.jsonl")
    steps, held = np.array([(epoch * STEPS, held) for epoch, held in seen if epoch > WARM_UP * EPOCHS]).T
    slope = usual_slope(steps / 1000, held / 1024)
    numbers = (state, EPOCHS * STEPS, round(held[0] / 2**20, 1), round(held[-1] / 2**20, 1), round(slope, 1))
    return {**dict(zip(COLUMNS, numbers, strict=True)), "passed": slope < GROWTH}


def usual_slope(x: np.ndarray, y: np.ndarray) -> float:
    """The median slope between two points (Theil-Sen): a leak moves it, one more block for the allocator does not."""
    first, second = np.triu_indices(len(x), 1)
    return float(np.median((y[second] - y[first]) / (x[second] - x[first])))


def watched(process: int, records: Path) -> list[tuple[int, int]]:
    """(finished epochs, resident bytes) after each epoch of a run, until it ends."""
    seen: list[tuple[int, int]] = []
    while not os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        epochs = len(records.read_text(encoding="utf-8").splitlines()) if records.exists() else 0
        if epochs > (seen[-1][0] if seen else 0):
            seen.append((epochs, resident(process)))
        time.sleep(0.05)
    if os.waitpid(process, 0)[1]:
        sys.exit("the long run failed; its last words are above")
    return seen


def resident(process: int) -> int:
    """Bytes of memory that a process holds, without the pages of files it has mapped."""
    pages, shared = Path(f"/proc/{process}/statm").read_text().split()[1:3]
    return (int(pages) - int(shared)) * os.sysconf("SC_PAGESIZE")
