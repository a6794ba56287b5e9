"""A suite before its first run: every name, option, weight, network and input of every run, and the disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from attar.errors import AttarError
from attar.experiments.inputs_record import changed_inputs
from attar.experiments.job import Job
from attar.experiments.launch import check_names
from attar.experiments.shared_resources import SharedResources
from attar.experiments.suites.cells import TEACHERS
from attar.experiments.suites.own_code import check_same_code
from attar.files import check_space
from attar.plugins import naming_imports
from attar.recipe import Recipe, read_recipe, with_found_rate

# Of one run: its title, its folder and its recipe's values.
Run = tuple[str, Path, dict[str, Any]]


def check_suite(folder: Path, runs: Iterable[tuple[Any, Run]], shared: SharedResources) -> None:
    """Check every run; nothing is written.

    A batch goes through the first run of each kind that is not finished. A run that is there already must have the
    suite's recipe and the inputs of today.

    Args:
        folder: the suite's.
        runs: each with its kind: runs of one kind differ in their seed only.
        shared: what is read is kept there.

    Raises:
        AttarError: each reason, with the runs that it holds for, or the disk has too little room.
    """
    reasons = dict[str, list[str]]()
    sizes: dict[Any, int] = {}
    needed = 0
    for kind, (title, place, values) in runs:
        try:
            needed += _checked(kind, place, values, shared, sizes)
        except AttarError as error:
            sizes.setdefault(kind, 0)
            reasons.setdefault(str(error), []).append(title)
    if reasons:
        raise AttarError("the suite cannot begin: " + "; ".join(map(_line, reasons.values(), reasons)))
    check_space(folder, needed)


def _line(titles: list[str], reason: str) -> str:
    more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
    return f"{titles[0]}{more}: {reason}"


def _checked(kind: Any, folder: Path, values: dict[str, Any], shared: SharedResources, sizes: dict[Any, int]) -> int:
    """Check one run; returns the bytes that it will write."""
    begun, finished = ((folder / name).exists() for name in ("recipe.yaml", "results.json"))
    if begun:
        check_recipe(folder, values)
    if (kind in sizes or finished) and not begun:
        return sizes.get(kind, 0)
    recipe = read_recipe(**values, out=str(folder))
    if begun:
        check_same_code(folder, recipe)
    if finished and _without_teachers(recipe):
        return 0
    check_names(recipe)
    with naming_imports(folder):
        job = Job(recipe, folder, Console(quiet=True), shared=shared)
    if begun:
        check_same_inputs(folder, job)
    if finished:
        return 0
    if kind not in sizes:
        job.check()
        sizes[kind] = job.bytes_needed()
    return sizes[kind]


def check_begun(folder: Path, values: dict[str, Any], job: Job) -> None:
    """A run that is there already must be the one that is meant, with the inputs of today.

    Raises:
        AttarError: a key of its recipe differs, or an input.
    """
    check_recipe(folder, values)
    check_same_inputs(folder, job)


def check_same_inputs(folder: Path, job: Job) -> None:
    """Refuse other data or weights than a run in a folder began with."""
    if changed := changed_inputs(folder, job.inputs):
        raise AttarError(
            f"{folder} began with other {', '.join(changed)}; put them back, delete it to run it again, or choose "
            "another out="
        )


def _without_teachers(recipe: Recipe) -> bool:
    """Whether the teachers that were trained for a run are not there: it is a record of the run."""
    files = map(Path, (recipe.teacher.weights or "").split(","))
    return any(TEACHERS in file.parts[-4:-3] and not file.exists() for file in files)


def check_recipe(folder: Path, values: dict[str, Any]) -> None:
    """A run that is there already must be the one the suite means; its folder may have moved, with its teachers.

    Raises:
        AttarError: a key of its recipe differs.
    """
    there = read_recipe(folder / "recipe.yaml")
    wanted = with_found_rate(read_recipe(**values), there)
    for name in (entry.name for entry in dataclasses.fields(Recipe) if entry.name != "out"):
        old, new = getattr(there, name), getattr(wanted, name)
        if name == "teacher" and _moved(old.weights, new.weights):
            new = dataclasses.replace(new, weights=old.weights)
        if old != new:
            last = ", or put new pairs behind those that are there" if TEACHERS in folder.parts else ""
            raise AttarError(f"{folder} holds a run with {name}={old}, the suite {new}; choose another out={last}")


def _moved(old: str | None, new: str | None) -> bool:
    """Whether weights are those of the same trained teachers of a suite, in its earlier folder and in today's."""
    places = [[Path(file).parts[-4:] for file in (weights or "").split(",")] for weights in (old, new)]
    return places[0] == places[1] and all(place[:1] == (TEACHERS,) or len(place) < 4 for place in places[0])
