"""A finished run read back from its folder: what a report is made of. Runs of older versions lack some of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attar.errors import AttarError
from attar.metrics import ClassificationMetrics, Scoring
from attar.metrics.predictions import Predictions, load_predictions, predictions_file
from attar.plugins import naming_imports
from attar.profiling import Cost
from attar.recipe import Recipe, read_recipe
from attar.report.summary import Summary


@dataclass(frozen=True)
class Measured:
    """A network's name, its scores and its cost, as results.json holds them."""

    name: str
    scores: dict[str, Any]
    cost: Cost

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Measured:
        return cls(tree["name"], {**tree["scores"]}, Cost(**tree["cost"]))


@dataclass(frozen=True)
class RunFiles:
    """The files of a finished run.

    Attributes:
        folder: where they are.
        summary: the recipe and the results.
    """

    folder: Path
    summary: Summary

    @property
    def recipe(self) -> Recipe:
        return self.summary.recipe

    @property
    def seeds(self) -> list[int]:
        return list(range(self.recipe.seed, self.recipe.seed + self.recipe.seeds))

    def seed_folder(self, seed: int) -> Path:
        """Where one seed's files lie: in the run's own folder where there is only one."""
        return self.folder if self.recipe.seeds == 1 else self.folder / f"seed{seed}"

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Their names, from the JSON beside the student; numbers where it is missing."""
        card = self._json(self.seed_folder(self.seeds[0]) / "student.json")
        count = len(self.summary.runs[0]["student"].scores.get("per_class", ()))
        return tuple(map(str, card.get("classes") or range(count)))

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self._json(self.folder / "environment.json")

    @cached_property
    def graph(self) -> str:
        """The drawing of who teaches whom; nothing where it was not kept."""
        file = self.folder / "graph.svg"
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""

    def places(self, key: str) -> list[Path]:
        """The folder of a network's training for each seed; a teacher has one."""
        if key.startswith("teacher"):
            return [self.folder / key]
        if key != "alone":
            return [self.seed_folder(seed) for seed in self.seeds]
        if self.recipe.alone in ("train", "skip"):
            return [self.seed_folder(seed) / "alone" for seed in self.seeds]
        return [_earlier(Path(self.recipe.alone), seed) for seed in self.seeds]

    def curves(self, key: str) -> list[list[dict[str, Any]]]:
        """The epochs of a network's training for each seed that has them."""
        files = [place / "metrics.jsonl" for place in self.places(key)]
        found = [[json.loads(line) for line in file.read_text().splitlines()] for file in files if file.is_file()]
        return [records for records in found if records]

    def predictions(self, key: str) -> list[Predictions]:
        """The predictions of a network for the test set, those of all its seeds or none.

        Raises:
            AttarError: a file is damaged.
        """
        files = [place / predictions_file("student" if key == "alone" else key) for place in self.places(key)]
        if key.startswith("teacher"):
            files = [self.folder / key / predictions_file("teacher")]
        return [load_predictions(file) for file in files] if all(file.is_file() for file in files) else []

    def _json(self, file: Path) -> dict[str, Any]:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _earlier(root: Path, seed: int) -> Path:
    """Where an earlier run keeps one seed's student alone."""
    places = [root / f"seed{seed}" / "alone", root / "alone", root / f"seed{seed}", root]
    return next((place for place in places if (place / "scores.json").is_file()), root)


def read_run(folder: str | Path) -> RunFiles:
    """The files of a finished run.

    Raises:
        AttarError: the folder holds no finished run, or its results cannot be read.
    """
    folder = Path(folder)
    file = folder / "results.json"
    if not file.is_file() or not (folder / "recipe.yaml").is_file():
        missing = "results.json" if (folder / "recipe.yaml").is_file() else "recipe.yaml"
        raise AttarError(
            f"{folder} holds no finished run (no {missing}); give the folder that `attar distill` printed, "
            "or finish it with attar resume"
        )
    with naming_imports(folder):
        recipe = read_recipe(folder / "recipe.yaml")
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        teachers = [Measured.from_json(entry) for entry in tree["teachers"]]
        runs = [{key: Measured.from_json(entry) for key, entry in run.items()} for run in tree["runs"]]
        # Runs of older versions are of classifiers.
        scoring = Scoring.from_json(tree["scoring"]) if "scoring" in tree else ClassificationMetrics().scoring
        scored = all(scoring.primary.name in one.scores for run in runs for one in run.values())
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise AttarError(
            f"cannot read {file} ({type(error).__name__}: {error}); attar resume writes it again"
        ) from None
    if len(runs) != recipe.seeds or not scored:
        raise AttarError(f"{file} has {len(runs)} seeds, the recipe {recipe.seeds}; attar resume writes it again")
    return RunFiles(folder, Summary(recipe, teachers, runs, folder, scoring))
