"""What a training came to: scores and cost of its networks, and the files of a run that hold them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from attar.metrics import ClassificationMetrics, Measure, Scoring
from attar.profiling.cost import Cost, Latency
from attar.records import damaged, from_record, read_json, shortened

SHARE, COUNT, TIME = (0.0, 1.0), (0, math.inf), (1e-9, 1e9)
# The least and the largest value of scores and costs; others may be any number.
SCORES = {**dict.fromkeys(("top1", "top5", "ece", "per_class", "agreement"), SHARE), "count": (1, math.inf)}
COSTS = {"parameters": COUNT, "macs": COUNT, "latency_ms": TIME, "latency_spread_ms": (0.0, 1e9), "bytes": COUNT}


@dataclass(frozen=True)
class Result:
    """What came out of one training.

    Attributes:
        name: which network it is ("student", "teacher", "alone", "peer1", ...).
        scores: on the test set.
        cost: parameters, MACs, latency and file size.
    """

    name: str
    scores: dict[str, Any]
    cost: Cost

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def numbers(self) -> dict[str, float]:
        """Scores and costs by "NAME/score", those that were measured."""
        fields = {**self.scores, **asdict(self.cost)}
        return {f"{self.name}/{key}": float(value) for key, value in fields.items() if isinstance(value, int | float)}

    def timed(self, latency: Latency) -> Result:
        """The same with another latency."""
        return replace(self, cost=replace(self.cost, latency_ms=latency.median, latency_spread_ms=latency.spread))

    @classmethod
    def from_json(cls, tree: Any) -> Result:
        """What `to_json` wrote.

        Raises:
            ValueError: an entry is missing, of another type or impossible; it names the entry.
        """
        if not isinstance(tree, dict) or tree.keys() != {"name", "scores", "cost"} or not isinstance(tree["name"], str):
            raise ValueError("no name, scores and cost")
        if not isinstance(tree["scores"], dict):
            raise ValueError(f"scores is {shortened(tree['scores'])}")
        for name, value in tree["scores"].items():
            low, high = SCORES.get(name, (-math.inf, math.inf))
            parts = value if isinstance(value, list) else [value]
            if not all(part is None or (_number(part) and not (part < low or part > high)) for part in parts):
                raise ValueError(f"{name} is {shortened(value)}")
        return cls(tree["name"], tree["scores"], from_record(Cost, tree["cost"], COSTS))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_scores(folder: Path, remedy: str = "delete it, and attar resume measures that network again") -> list[Result]:
    """The results of one training, from scores.json in its folder.

    Args:
        folder: the training's.
        remedy: what to do about a damaged file, the end of the message.

    Raises:
        AttarError: the file is missing or damaged.
    """
    file = folder / "scores.json"
    tree = read_json(file, remedy)
    try:
        if not isinstance(tree, dict) or not isinstance(tree.get("results"), list) or not tree["results"]:
            raise ValueError("no results")
        return [Result.from_json(entry) for entry in tree["results"]]
    except ValueError as error:
        raise damaged(file, str(error), remedy) from None


def read_results(folder: Path) -> tuple[list[Result], list[dict[str, Result]], Scoring]:
    """The results of a job, from results.json in its folder: each teacher's, each seed's by name, and how they score.

    Raises:
        AttarError: the file is missing or damaged.
    """
    file, remedy = folder / "results.json", "attar resume writes it again"
    tree = read_json(file, remedy)
    try:
        if not isinstance(tree, dict) or not all(isinstance(tree.get(key), list) for key in ("teachers", "runs")):
            raise ValueError("no teachers and runs")
        teachers = [Result.from_json(entry) for entry in tree["teachers"]]
        runs = [_run(entry) for entry in tree["runs"]]
        # Runs of older versions are of classifiers.
        scoring = _scoring(tree["scoring"]) if "scoring" in tree else ClassificationMetrics().scoring
        _check_scores([*teachers, *(result for run in runs for result in run.values())], scoring)
        if not runs or any(run.keys() != runs[0].keys() for run in runs):
            raise ValueError("its seeds have other networks")
    except ValueError as error:
        raise damaged(file, str(error), remedy) from None
    return teachers, runs, scoring


def read_failures(folder: Path) -> dict[int, str]:
    """The seeds of a job that failed, with the reason, from results.json in its folder.

    Raises:
        AttarError: the file is missing or damaged.
    """
    file, remedy = folder / "results.json", "attar resume writes it again"
    found = read_json(file, remedy).get("failed", {})
    if not isinstance(found, dict) or not all(seed.isdecimal() and isinstance(why, str) for seed, why in found.items()):
        raise damaged(file, "failed is not a reason for each seed", remedy)
    return {int(seed): why for seed, why in found.items()}


def _run(entry: Any) -> dict[str, Result]:
    """One seed's results."""
    if not isinstance(entry, dict) or "student" not in entry:
        raise ValueError("a seed without a student")
    return {name: Result.from_json(result) for name, result in entry.items()}


def _scoring(tree: Any) -> Scoring:
    """How a job's networks are scored."""
    if not isinstance(tree, dict) or not isinstance(tree.get("measures"), list) or not tree["measures"]:
        raise ValueError("scoring has no measures")
    for name in ("sample", "entry"):
        if not isinstance(tree.get(name, "" if name == "entry" else None), str):
            raise ValueError(f"{name} is {shortened(tree.get(name))}")
    limits = {"scale": (1e-9, 1e9), "digits": (0, 20)}
    measures = tuple(from_record(Measure, one, limits) for one in tree["measures"])
    return Scoring(measures, tree["sample"], tree.get("entry", ""))


def _check_scores(results: list[Result], scoring: Scoring) -> None:
    """Raise ValueError where a network lacks what the tables show, or networks have other classes."""
    for result in results:
        for name in ("count", scoring.primary.name):
            if not _number(result.scores.get(name)):
                raise ValueError(f"{name} is {shortened(result.scores.get(name))}")
    shapes = {
        tuple((name, len(value)) if isinstance(value, list) else ("", 0) for name, value in result.scores.items())
        for result in results
    }
    if len({frozenset(shape) for shape in shapes}) > 1:
        raise ValueError("its networks have other classes")
