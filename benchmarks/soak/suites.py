"""Suites: killed at random moments they end with the same digits; a hundred runs leave nothing behind."""

from __future__ import annotations

import csv
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from commands import digest, finish, leftovers, start
from memory import resident, usual_slope

KILLED = """
methods: [supervised, {name: kd, temperature: [2, 4]}]
pairs: [{teacher: {name: resnet14, epochs: 2}, student: resnet8}]
seeds: [3, 7]
recipe: {data: {name: digits, train_size: 200}, epochs: 4, batch_size: 20, precision: float32,
  checkpoint_minutes: 0.002, teacher: {precision: float32}}
"""
MANY = """
methods: [supervised, {name: kd, temperature: [1, 2, 3, 4]}]
pairs: [{teacher: {name: resnet8, epochs: 1}, student: resnet8}]
seeds: 20
recipe: {data: {name: digits, train_size: 40}, epochs: 1, batch_size: 20, precision: float32,
  teacher: {precision: float32}}
"""
# Kills of a suite for each trial, and what they may take of its undisturbed time.
KILLS, MOST = 5, 0.4
# A run of the hundred that grows by more than this leaks; the first ones fill caches and allocators.
GROWTH_KB, WARM_UP = 100.0, 20
# What hangs on the clock.
TIMES = ("seconds", "latency_ms", "latency_spread_ms")
KILL_COLUMNS = ("processes", "kills", "in the middle", "files as undisturbed", "table as undisturbed", "left behind")
MANY_COLUMNS = ("runs", "MB after 20", "MB at the end", "KB more a run", "open files", "left behind")


def rows(trials: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """A row for one run at a time, one for two."""
    return [killed(jobs, trials, random.Random(f"{seed}/{jobs}"), scratch / str(jobs)) for jobs in (1, 2)]


def command(folder: Path, text: str, jobs: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.yaml").write_text(text)
    return ["bench", str(folder / "suite.yaml"), f"out={folder / 'out'}", f"jobs={jobs}"]


def killed(jobs: int, trials: int, draw: random.Random, scratch: Path) -> dict[str, Any]:
    """One undisturbed suite, and one that is killed again and again."""
    begun = time.monotonic()
    finish(start(command(scratch / "whole", KILLED, jobs)))
    seconds = time.monotonic() - begun
    kills = within = 0
    again = command(scratch / "killed", KILLED, jobs)
    for _ in range(trials * KILLS):
        process = start(again)
        time.sleep(draw.uniform(0, MOST) * seconds)
        os.kill(process, signal.SIGKILL)
        within += os.WIFSIGNALED(os.waitpid(process, 0)[1])
        kills += 1
    finish(start(again))
    whole, other = scratch / "whole" / "out", scratch / "killed" / "out"
    files = sorted(
        file.relative_to(whole) for name in ("student.safetensors", "metrics.jsonl") for file in whole.rglob(name)
    )
    alike = sum(digest(whole / file) == digest(other / file) for file in files)
    table = records(whole) == records(other)
    left = leftovers(other) + len(holders(other))
    counts = (jobs, kills, within, f"{alike} / {len(files)}", "yes" if table else "no", left)
    passed = alike == len(files) and table and not left
    return {**dict(zip(KILL_COLUMNS, counts, strict=True)), "passed": passed}


def records(folder: Path) -> list[dict[str, str]]:
    """Every run of a suite with its scores, without times."""
    with (folder / "runs.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def holders(folder: Path) -> list[Path]:
    """Lock files that name a holder."""
    return [file for file in folder.rglob(".*lock") if file.read_text()]


def many_rows(trials: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """A hundred runs and twenty teachers, one after another in one process; one row, whatever `trials`."""
    arguments = command(scratch, MANY, 1)
    process, seen = start(arguments), list[tuple[int, int, int]]()
    while not os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        count = len(list((scratch / "out").glob("resnet8*/*/*/results.json")))
        if count > (seen[-1][0] if seen else 0):
            seen.append((count, resident(process), len(os.listdir(f"/proc/{process}/fd"))))
        time.sleep(0.1)
    finish(process)
    numbers, held, opened = np.array([one for one in seen if one[0] > WARM_UP]).T
    slope = usual_slope(numbers.astype(float), held / 1024)
    left = leftovers(scratch) + len(holders(scratch))
    values = (numbers[-1], round(held[0] / 2**20, 1), round(held[-1] / 2**20, 1), round(slope, 1))
    row = (*values, f"{opened.min()} to {opened.max()}", left)
    passed = slope < GROWTH_KB and opened.max() - opened.min() < 5 and not left
    return [{**dict(zip(MANY_COLUMNS, map(str, row), strict=True)), "passed": bool(passed)}]
