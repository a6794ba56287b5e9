"""A job that is finished, from its folder alone."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from attar.experiments.layout import training_place, training_recipe, trainings_of
from attar.experiments.training import Result, finished, followed, report_results
from attar.metrics import Scoring
from attar.recipe import Recipe
from attar.report.summary import Summary
from attar.track import Tracking


def finished_summary(recipe: Recipe, folder: Path) -> Summary | None:
    """The summary that a finished job wrote; None where something is missing or damaged, so that the job goes on."""
    places = [training_place(recipe, folder, *one)[1] for one in trainings_of(recipe)]
    if not (folder / "report.html").is_file() or not all(map(finished, places)):
        return None
    try:
        tree = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        teachers = [Result.from_json(entry) for entry in tree["teachers"]]
        scoring = Scoring.from_json(tree["scoring"])
        runs = [{name: Result.from_json(entry) for name, entry in run.items()} for run in tree["runs"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    measured = all(one.cost.complete for one in [*teachers, *(one for run in runs for one in run.values())])
    return Summary(recipe, teachers, runs, folder, scoring) if measured and len(runs) == recipe.seeds else None


def catch_up(recipe: Recipe, folder: Path, console: Console) -> None:
    """Log what trackers have not got yet: one that was left out, or a process that ended before it could log."""
    tracking = Tracking(recipe.track, folder)
    for seed, alone in trainings_of(recipe):
        title, place = training_place(recipe, folder, seed, alone)
        with followed(training_recipe(recipe, seed, alone), place, title, tracking, console) as following:
            report_results(place, following)
