"""A job that is finished, from its folder alone."""

from __future__ import annotations

import json
from pathlib import Path

from attar.experiments.training import Result, finished
from attar.recipe import Recipe
from attar.report.summary import Summary


def finished_summary(recipe: Recipe, folder: Path) -> Summary | None:
    """The summary that a finished job wrote; None where something is missing or damaged, so that the job goes on."""
    if not (folder / "report.html").is_file() or not all(map(finished, _trainings(recipe, folder))):
        return None
    try:
        tree = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        teachers = [Result.from_json(entry) for entry in tree["teachers"]]
        runs = [{name: Result.from_json(entry) for name, entry in run.items()} for run in tree["runs"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Summary(recipe, teachers, runs, folder) if len(runs) == recipe.seeds else None


def _trainings(recipe: Recipe, folder: Path) -> list[Path]:
    """The folders of a job's students."""
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    students = [folder] if recipe.seeds == 1 else [folder / f"seed{seed}" for seed in seeds]
    return students + ([student / "alone" for student in students] if recipe.alone == "train" else [])
