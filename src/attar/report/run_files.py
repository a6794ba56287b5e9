"""A finished run read back from its folder: what a report is made of. Runs of older versions lack some of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from attar.errors import AttarError
from attar.metrics.predictions import Predictions, load_predictions, predictions_file
from attar.plugins import naming_imports
from attar.profiling import read_failures, read_results
from attar.recipe import Recipe, listed, read_recipe
from attar.records import damaged, read_json, read_json_lines
from attar.report.summary import Summary

# What a report can do without.
WITHOUT = "delete it to go on without"


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
        """Those that did not fail."""
        return self.summary.seeds

    def seed_folder(self, seed: int) -> Path:
        """Where one seed's files lie: in the run's own folder where there is only one."""
        return self.folder if self.recipe.seeds == 1 else self.folder / f"seed{seed}"

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Their names, from the JSON beside the student; numbers where it is missing."""
        file = self.seed_folder(self.seeds[0]) / "student.json"
        count = len(self.summary.runs[0]["student"].scores.get("per_class") or ())
        names = self._json(file).get("classes") or list(range(count))
        if not isinstance(names, list) or (count and len(names) != count):
            raise damaged(file, f"it has not the names of {count} classes", WITHOUT)
        return tuple(map(str, names))

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
        return [records for file in files if file.exists() and (records := _epochs(file))]

    def predictions(self, key: str) -> list[Predictions]:
        """The predictions of a network for the test set, those of all its seeds or none.

        Raises:
            AttarError: a file is damaged.
        """
        name = "student" if key == "alone" else "teacher" if key.startswith("teacher") else key
        files = [place / predictions_file(name) for place in self.places(key)]
        found = [load_predictions(file) for file in files] if all(file.is_file() for file in files) else []
        for file, one in zip(files, found, strict=False):
            numbers = np.concatenate([one.labels, one.top.ravel()])
            if self.classes and not 0 <= numbers.min() <= numbers.max() < len(self.classes):
                raise damaged(file, f"it has classes {numbers.min()} to {numbers.max()}", WITHOUT)
        return found

    def _json(self, file: Path) -> dict[str, Any]:
        if not file.exists():
            return {}
        tree = read_json(file, WITHOUT)
        if not isinstance(tree, dict):
            raise damaged(file, "it is no object", WITHOUT)
        return tree


def _epochs(file: Path) -> list[dict[str, Any]]:
    """The records of a training: every one with its epoch, its numbers and the loss of each edge.

    Raises:
        AttarError: the file is damaged.
    """
    records = read_json_lines(file, WITHOUT)
    for number, record in enumerate(records, 1):
        terms = record.get("terms", {})
        values = [*(record | {"terms": 0}).values(), *(terms.values() if isinstance(terms, dict) else [""])]
        if not isinstance(record.get("epoch"), int) or not all(isinstance(value, int | float) for value in values):
            raise damaged(file, f"line {number} has other entries than numbers", WITHOUT)
    return records


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
    teachers, runs, scoring = read_results(folder)
    failed = read_failures(folder)
    named = [name for name in listed(recipe.teacher.name) if name]
    for what, found, count in (("seeds", [*runs, *failed], recipe.seeds), ("teachers", teachers, len(named))):
        if len(found) != count:
            raise AttarError(f"{file} has {len(found)} {what}, the recipe {count}; attar resume writes it again")
    return RunFiles(folder, Summary(recipe, teachers, runs, folder, scoring, failed))
