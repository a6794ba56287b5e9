"""Numbers that papers published: CIFAR-100 top-1 by pair of networks and method, with where they stand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("published.json")
# What the tables of papers call networks of the zoo.
TITLES = {
    "resnet50": "ResNet-50",
    "mobilenetv2": "MobileNet-V2",
    "shufflenetv1": "ShuffleNet-V1",
    "shufflenetv2": "ShuffleNet-V2",
}
# The data set that all numbers with plain names of pairs are of.
DATA = "cifar100"


@cache
def published() -> Mapping[str, Any]:
    """Everything that is kept: {"note": ..., "teacher": top-1 by pair, "student": ..., "methods": {name: ...}}.

    >>> published()["methods"]["kd"]["top1"]["resnet56, resnet20"]
    70.66
    """
    tree: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return tree


def published_score(method: str, teacher: str, student: str, data: str) -> tuple[float, str] | None:
    """The published top-1 in per cent of a method on a pair, and its source; None where nothing is kept.

    Args:
        method: its name; "supervised": the student alone, "teacher": the teacher.
        teacher: the teacher's name in the zoo; of no account for a student alone.
        student: the student's.
        data: the data set.

    >>> published_score("kd", "resnet56", "resnet20", "cifar100")
    (70.66, 'README of RepDistiller; README and configurations of mdistiller')
    >>> published_score("supervised", "", "resnet20", "cifar100")[0]
    69.06
    >>> published_score("kd", "resnet56", "resnet20", "digits")
    """
    if data != DATA:
        return None
    held, pair = published(), f"{TITLES.get(teacher, teacher)}, {TITLES.get(student, student)}"
    if method in ("supervised", "teacher"):
        # Alone, a student is the same in every pair.
        alone = {names.split(", ")[1]: top1 for names, top1 in held["student"].items()}
        top1 = held["teacher"].get(pair) if method == "teacher" else alone.get(pair.split(", ")[1])
        return None if top1 is None else (top1, "; ".join(held["methods"]["kd"]["sources"]))
    record = held["methods"].get(method, {})
    top1 = record.get("top1", {}).get(pair)
    return None if top1 is None else (top1, "; ".join(record["sources"]))
