"""What is known of methods beside their code: published accuracies, and what a step of each costs."""

from __future__ import annotations

import json
import statistics
from functools import cache
from pathlib import Path

from attar.report.published import published

HERE = Path(__file__).parent
# How well the costs of steps are known.
ACCURACY = "measured on a busy machine to about a tenth"


@cache
def costs() -> dict[str, dict[str, float]]:
    """By method "step", a step's time where kd's is 1, and "extra", the parameters it trains beside the student's.

    From `benchmarks/step_cost.py`, whose whole table is benchmarks/results/step-cost.md.
    """
    known: dict[str, dict[str, float]] = json.loads((HERE / "step_cost.json").read_text(encoding="utf-8"))
    return known


def gain_over_kd(name: str) -> tuple[float, int] | None:
    """The mean of a method's published top-1 on CIFAR-100 minus kd's on the same pairs, and how many pairs; or None.

    None too where the method was run in a toolbox whose own kd and students score otherwise (SemCKD's and SimKD's).

    >>> gain, pairs = gain_over_kd("dkd")
    >>> round(gain, 2), pairs
    (1.95, 12)
    """
    records = published()["methods"]
    if name not in records or name == "kd" or "toolbox" in records[name]:
        return None
    own, kd = records[name]["top1"], records["kd"]["top1"]
    gains = [top1 - kd[pair] for pair, top1 in own.items() if pair in kd and not pair.startswith("ImageNet")]
    return (statistics.fmean(gains), len(gains)) if gains else None


def gain_text(name: str) -> str:
    """The published gain over kd with the number of pairs in brackets; empty without one.

    >>> gain_text("dkd"), gain_text("kd")
    ('+1.95 (12)', '')
    """
    found = gain_over_kd(name)
    return f"{found[0]:+.2f} ({found[1]})" if found else ""


def step_text(name: str, step: float) -> str:
    """A step's time where kd's is 1, to the tenth that the measurement allows.

    >>> step_text("at", 1.1712), step_text("kd", 1.03)
    ('1.2', '1.0')
    """
    return f"{1.0 if name == 'kd' else step:.1f}"


def cost_texts(name: str) -> tuple[str, str]:
    """A step's cost and the further parameters; empty where they were not measured."""
    record = costs().get(name)
    return (step_text(name, record["step"]), f"{int(record['extra']):,}") if record else ("", "")
