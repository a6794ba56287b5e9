"""Every method, killed at random moments and resumed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from attar.methods import list_methods, method_info
from commands import STUDENT, kill, leftovers, run, same, start, timed, trained_teacher

# What differs between runs of a method: the average, the accumulation and the precision take turns.
KINDS = (["optim.ema=0.9"], ["optim.accumulate=2"], ["precision=bfloat16"])
RECIPE = [*STUDENT, "epochs=3", "data.train_size=200", "checkpoint_minutes=0.002"]
COLUMNS = ("method", "survived", "in the middle of training", "temporary files left")


def rows(trials: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """One row a method; a kill is survived when the run ends as the undisturbed one."""
    teacher = trained_teacher(scratch)
    return [
        soak(name, teacher if method_info(name).takes_teacher else [], trials, random.Random(f"{seed}/{name}"), scratch)
        for name in list_methods()
        if "layers" not in method_info(name).needs
    ]


def soak(method: str, teacher: list[str], trials: int, draw: random.Random, scratch: Path) -> dict[str, Any]:
    """One undisturbed run for each kind of recipe, and the kills."""
    survived = within = left = 0
    whole: dict[int, tuple[Path, float]] = {}
    for trial in range(trials):
        kind = trial % len(KINDS)
        recipe = [*RECIPE, *teacher, f"method={method}", *KINDS[kind]]
        if kind not in whole:
            folder = scratch / method / f"whole{kind}"
            process, last = start(["distill", *recipe, f"out={folder}"]), folder / "checkpoint.pt"
            whole[kind] = (folder, timed(process, last, last))
        expected, seconds = whole[kind]
        folder = scratch / method / f"kill{trial}"
        process = start(["distill", *recipe, f"out={folder}"])
        within += kill(process, folder / "checkpoint.pt", draw.uniform(0, 0.9) * seconds)
        run(["resume", str(folder)])
        survived += same(folder, expected)
        left += leftovers(folder)
    counts = (method, f"{survived} / {trials}", within, left)
    return {**dict(zip(COLUMNS, counts, strict=True)), "passed": survived == trials and not left}
