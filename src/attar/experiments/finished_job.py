"""A job that is finished, from its folder alone."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from attar.errors import AttarError
from attar.experiments.layout import training_place, training_recipe, trainings_of
from attar.experiments.training import finished, followed, report_results
from attar.recipe import Recipe
from attar.report.run_files import read_run
from attar.report.summary import Summary
from attar.track import Tracking


def finished_summary(recipe: Recipe, folder: Path) -> Summary | None:
    """The summary that a finished job wrote; None where something is missing or damaged, so that the job goes on."""
    places = [training_place(recipe, folder, *one)[1] for one in trainings_of(recipe)]
    if not (folder / "report.html").is_file() or not all(map(finished, places)):
        return None
    try:
        summary = read_run(folder).summary
    except AttarError:
        return None
    results = [*summary.teachers, *(result for run in summary.runs for result in run.values())]
    return summary if all(result.cost.complete for result in results) else None


def catch_up(recipe: Recipe, folder: Path, console: Console) -> None:
    """Log what trackers have not got yet: one that was left out, or a process that ended before it could log."""
    tracking = Tracking(recipe.track, folder)
    for seed, alone in trainings_of(recipe):
        title, place = training_place(recipe, folder, seed, alone)
        with followed(training_recipe(recipe, seed, alone), place, title, tracking, console) as following:
            report_results(place, following)
