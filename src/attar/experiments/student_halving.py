"""The best student under a budget: candidates are trained for a while, the better half longer, the winner in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from attar.accel.runtime import find_device
from attar.data import Splits, eval_batches
from attar.errors import AttarError
from attar.experiments.build import Parts
from attar.experiments.given_objects import Given
from attar.experiments.launch import check_names, prepare, resume
from attar.experiments.networks_of_runs import with_networks_of_runs
from attar.experiments.shared_resources import SharedResources
from attar.metrics import score
from attar.profiling import Measured, Suggestion, suggest
from attar.recipe import ModelRecipe, Recipe
from attar.report.search_page import Found, Tried, ordered, write_search_page
from attar.report.summary import Summary
from attar.train.logging import read

# The parts of the recipe's epochs that candidates are trained for; each time the better half goes on.
RUNGS = (0.25, 0.5)
BUDGETS = ("latency", "size", "macs", "params", "memory")


@dataclass(frozen=True)
class Goal:
    """What is looked for.

    Attributes:
        within: how many points below the teacher the student may be on the test set; None: as near as it gets.
        candidates: how many networks to try at most.
        among: shell patterns of names; none: the zoos' rules (`attar suggest`).
        budget: the most of latency, size, macs, params and memory, as texts ("5ms", "1MB").
    """

    within: float | None = None
    candidates: int = 8
    among: tuple[str, ...] = ()
    budget: Mapping[str, str] = field(default_factory=dict)


def search_students(recipe: Recipe, goal: Goal, console: Console) -> Found:
    """Train what fits the budget in successive halving on one cached teacher, and the best one in full.

    Candidates are compared on validation images; the test set is looked at for the winner alone. Every training is a
    run in the search's folder; the same command goes on with a search that was stopped.

    Args:
        recipe: teacher (with weights), data, method and how to train; its student is what is looked for.
        goal: the budget.
        console: where to print.

    Raises:
        AttarError: no network fits, the teacher has no weights, there are no validation images, or a student is named.
    """
    recipe = with_networks_of_runs(recipe)
    if recipe.student.name:
        raise AttarError(f"student={recipe.student.name}: the student is what a search looks for; leave it out")
    if not recipe.teacher.weights and not recipe.teacher.name.startswith(("hf/", "onnx/")):
        raise AttarError("a search needs a trained teacher; give teacher=RUN, or teacher.weights=FILE")
    folder = Path(recipe.out or f"runs/search-{recipe.teacher.name.replace('/', '-')}-{Path(recipe.data.name).name}")
    check_names(replace(recipe, student=ModelRecipe("resnet8")))
    shared, cache = SharedResources(), folder / "teacher-logits"
    parts = Parts(recipe, shared.samples_of(recipe, Given()), Given())
    with console.status(f"reading {recipe.data.name}"):
        splits = parts.splits(recipe.seed)
    if not isinstance(splits, Splits) or splits.val is None:
        raise AttarError("a search compares candidates on validation images; give image data and data.val_fraction")
    teacher, measure = parts.teachers()[0].eval(), parts.held.task.metrics().primary
    device = find_device(recipe.device)
    with console.status("testing the teacher on the validation images"):
        batches = eval_batches(splits.val, recipe.batch_size, device)
        scores = score(teacher.to(device), batches, parts.held.task.metrics())
    teacher.cpu()
    found = _candidates(teacher, splits, goal, console)
    console.print(f"{len(found.students)} candidates: {', '.join(one.name for one in found.students)}")
    tried: dict[str, Tried] = {}
    left: Sequence[Measured] = found.students
    for number, part in enumerate(RUNGS, 1):
        if len(left) == 1 and tried:
            break
        epochs = max(1, round(part * recipe.epochs))
        for place, one in enumerate(left, 1):
            line = f"round {number} of {len(RUNGS)}, {place} of {len(left)}: {one.name}, {epochs} epochs"
            console.print(line, markup=False, soft_wrap=True)
            place_of = folder / f"round{number}" / one.name.replace("/", "-")
            run = _candidate(recipe, one.name, epochs, place_of, cache)
            _run(run, shared, Console(quiet=True))
            value = _validated(Path(str(run.out)), measure.name)
            tried[one.name] = Tried(one, value, epochs, Path(str(run.out)))
            console.print(f"    validation {measure.phrase(value)}", markup=False)
        best = ordered([tried[one.name] for one in left], measure)
        left = [one.cost for one in best[: max(1, (len(best) + 1) // 2)]]
    run = _candidate(recipe, left[0].name, recipe.epochs, folder / "winner", cache)
    winner = replace(run, alone=recipe.alone, export=recipe.export)
    console.print(f"{left[0].name} is trained in full, {recipe.epochs} epochs", markup=False)
    summary = _run(winner, shared, console)
    first = replace(found.teacher, name=recipe.teacher.name)
    value = measure.scale * scores[measure.name]
    result = Found(ordered(list(tried.values()), measure), first, value, measure, summary, goal.within, folder)
    write_search_page(result)
    return result


def _candidates(teacher: Any, splits: Splits, goal: Goal, console: Console) -> Suggestion:
    """The networks that fit, measured."""
    channels, height, width = splits.image_shape
    if height != width:
        raise AttarError(f"a search takes square images, these are {height}x{width}; give data.image_size=SIDE")
    with console.status("looking for candidates") as status:
        found = suggest(
            teacher,
            image_size=height,
            classes=splits.num_classes,
            channels=channels,
            top=goal.candidates,
            among=goal.among,
            progress=lambda what, done, of: status.update(what),
            **goal.budget,  # type: ignore[arg-type]
        )
    if not found.students:
        near = ", ".join(one.name for one in found.nearest)
        raise AttarError(f"no network fits the budget; the nearest are {near}: allow more, or give among=")
    return found


def _candidate(recipe: Recipe, name: str, epochs: int, folder: Path, cache: Path) -> Recipe:
    """The recipe of one candidate, which learns from the cached teacher."""
    return replace(
        recipe,
        student=ModelRecipe(name, options=recipe.student.options),
        teacher=replace(recipe.teacher, cache=recipe.teacher.cache or str(cache)),
        data=replace(recipe.data, view_seed=recipe.data.view_seed or 0),
        epochs=epochs,
        alone="skip",
        seeds=1,
        export=[],
        out=str(folder),
    )


def _run(recipe: Recipe, shared: SharedResources, console: Console) -> Summary:
    """A run, or the rest of one that was stopped."""
    folder = Path(str(recipe.out))
    if (folder / "recipe.yaml").is_file():
        return resume(folder, console)
    return prepare(recipe, console, None, shared).run()


def _validated(folder: Path, measure: str) -> float:
    """The measure on validation images after the last epoch of a run."""
    return float(read(folder / "metrics.jsonl")[-1][f"val_{measure}"])


def split_goal(keys: Mapping[str, Any]) -> tuple[Goal, dict[str, Any]]:
    """The goal in keys of a command, and the keys that are the recipe's.

    >>> goal, rest = split_goal({"within": "2", "latency": "5ms", "teacher": "resnet56"})
    >>> goal.within, dict(goal.budget), rest
    (2.0, {'latency': '5ms'}, {'teacher': 'resnet56'})
    """
    rest = dict(keys)
    budget = {name: str(rest.pop(name)) for name in BUDGETS if name in rest}
    numbers: dict[str, Any] = {}
    for name, kind in _NUMBERS.items():
        if name in rest:
            given = rest.pop(name)
            try:
                numbers[name] = kind(given)
            except (TypeError, ValueError):
                raise AttarError(f"{name}={given}: expected a number") from None
    among = rest.pop("among", ())
    patterns = tuple(among.split(",")) if isinstance(among, str) else tuple(among)
    return Goal(budget=budget, among=patterns, **numbers), rest


_NUMBERS: dict[str, Callable[[Any], Any]] = {"within": float, "candidates": int}
