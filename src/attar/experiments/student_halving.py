"""The best student under a budget: candidates are trained for a while, the better half longer, the winner in full."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from attar.accel.runtime import find_device
from attar.data import ImageSet, Splits, eval_batches
from attar.data.overview import split_lines
from attar.errors import AttarError, first_line
from attar.experiments.build import Parts, untrained_teachers
from attar.experiments.defaults import CHOSEN, with_defaults
from attar.experiments.given_objects import Given, take_candidates
from attar.experiments.kept_choices import FILE as CHOICES
from attar.experiments.kept_choices import Choices
from attar.experiments.launch import looked_up, prepare, recipe_of, resume
from attar.experiments.shared_resources import SharedResources
from attar.metrics import Measure, score
from attar.profiling import Measured, Suggestion, suggest
from attar.profiling.budget import read_budget
from attar.profiling.candidates import candidate_names
from attar.profiling.suggestion import ZOO_SIDE
from attar.recipe import ModelRecipe, Recipe, flat_name, titled, with_found_rate
from attar.report.search_page import Found, Tried, ordered, write_search_page
from attar.report.suggestions import over_budget, unsteady
from attar.report.summary import Summary
from attar.safety.locks import InUseError
from attar.train.logging import read
from attar.train.progress import only_bars
from attar.train.schedules import for_epochs

# The parts of the recipe's epochs that candidates are trained for; each time the better half goes on.
RUNGS = (0.25, 0.5)
BUDGETS = ("latency", "size", "macs", "params", "memory")


@dataclass(frozen=True)
class Goal:
    """What is looked for.

    Attributes:
        within: how many points below the teacher the student may be on the test set; None: as near as it gets.
        candidates: how many networks to try at most.
        among: names, shell patterns of names, functions or networks; none: the zoos' rules (`attar suggest`).
        budget: the most of latency, size, macs, params and memory, as texts ("5ms", "1MB").
    """

    within: float | None = None
    candidates: int = 8
    among: tuple[Any, ...] = ()
    budget: Mapping[str, str] = field(default_factory=dict)


def search_students(
    recipe: Recipe, goal: Goal, console: Console, given: Given | None = None, keys: Collection[str] | None = None
) -> Found:
    """Train what fits the budget in successive halving on one cached teacher, and the best one in full.

    Candidates are compared on validation images; the test set is looked at for the winner alone. Every training is a
    run in the search's folder; the same command goes on with a search that was stopped. Precision, threads and the
    teacher's engine are chosen once for all of them.

    Args:
        recipe: teacher (with weights), data, method and how to train; its student is what is looked for.
        goal: the budget.
        console: where to print.
        given: objects in place of the recipe's names.
        keys: the recipe's keys that somebody gave; settings of the training are chosen for the others. None: all.

    Raises:
        AttarError: no network fits, the teacher has no weights, there are no validation images, or a student is named;
            or the folder holds a search with other settings.
    """
    given = given or Given()
    if recipe.student.name:
        raise AttarError(f"student={recipe.student.name}: the student is what a search looks for; leave it out")
    if recipe.teacher.name:
        held = looked_up(replace(recipe, student=ModelRecipe("resnet8")), console)
        recipe = replace(held, student=recipe.student)
    if not recipe.teacher.name or (untrained_teachers(recipe.teacher) and not given.teachers):
        raise AttarError("a search needs a trained teacher; give teacher=RUN, or teacher.weights=FILE")
    with console.status("looking up the networks"):
        names, networks = check_goal(goal)
    goal = replace(goal, among=names)
    return _Halving(recipe, goal, console, given, networks, keys).run()


def check_goal(goal: Goal) -> tuple[tuple[str, ...], dict[str, nn.Module]]:
    """What can be checked before images are read; the names of the candidates, and those that are objects.

    Raises:
        AttarError: a budget is no quantity, no candidate is asked for, or a name matches no network.
    """
    read_budget(**goal.budget)
    if goal.candidates < 1:
        raise AttarError(f"candidates={goal.candidates}: give 1 or more")
    if goal.within is not None and not math.isfinite(goal.within):
        raise AttarError(f"within={goal.within}: give a number of points")
    names, networks = take_candidates(goal.among)
    if names:
        candidate_names(ZOO_SIDE, names)
    return names, networks


@dataclass
class _Halving:
    """One search.

    Attributes:
        recipe: of everything but the student.
        goal: the budget, its candidates all named.
        console: where to print.
        given: objects in place of the recipe's names.
        networks: candidates that are objects, by their names.
        keys: the recipe's keys that somebody gave; None: all.
    """

    recipe: Recipe
    goal: Goal
    console: Console
    given: Given
    networks: Mapping[str, nn.Module]
    keys: Collection[str] | None

    def __post_init__(self) -> None:
        own = flat_name("search", self.recipe.teacher.name, Path(self.recipe.data.name).name)
        self.folder = Path(self.recipe.out or f"runs/{own}")
        self.shared = SharedResources(choices=Choices(self.folder / CHOICES))
        self.lines = set[str]()
        self.parts = Parts(self.recipe, self.shared.samples_of(self.recipe, self.given), self.given)

    def run(self) -> Found:
        """Candidates, their trainings, and the page."""
        with self.console.status(f"reading {self.recipe.data.name}"):
            splits = self.parts.splits(self.recipe.seed)
        if not isinstance(splits, Splits) or splits.val is None:
            raise AttarError("a search compares candidates on validation images; give image data and data.val_fraction")
        for line in (*split_lines(splits), *(f"warning: {note}" for note in splits.notes)):
            self._print(line)
        measure = self.parts.held.task.metrics().primary
        teacher = self.parts.teachers()[0].eval()
        value = self._validated_teacher(teacher, splits.val, measure)
        found = self._candidates(teacher, splits)
        tried = self._rounds(found.students, measure)
        best = next(iter(tried)).cost.name
        recipe = self._recipe(best, self.folder / "winner")
        self._print(f"{titled(best)} is trained in full, {_epochs(recipe.epochs)}")
        winner = self._run(replace(recipe, alone=self.recipe.alone, export=self.recipe.export), self.console)
        first = replace(found.teacher, name=titled(self.recipe.teacher.name))
        result = Found(tried, first, value, measure, winner, self.goal.within, self.folder)
        write_search_page(result)
        return result

    def _validated_teacher(self, teacher: nn.Module, images: ImageSet, measure: Measure) -> float:
        """The teacher's primary measure on validation images, as people read it."""
        device = find_device(self.recipe.device)
        with self.console.status("testing the teacher on the validation images"):
            batches = eval_batches(images, self.recipe.batch_size, device)
            scores = score(teacher.to(device), batches, self.parts.held.task.metrics())
        teacher.cpu()
        return measure.scale * scores[measure.name]

    def _candidates(self, teacher: nn.Module, splits: Splits) -> Suggestion:
        """The networks that fit, measured."""
        channels, height, width = splits.image_shape
        if height != width:
            raise AttarError(f"a search takes square images, these are {height}x{width}; give data.image_size=SIDE")
        with self.console.status("looking for candidates") as status:
            found = suggest(
                teacher,
                image_size=self.recipe.student.options.get("input_size", height),
                teacher_size=height,
                classes=splits.num_classes,
                channels=channels,
                top=self.goal.candidates,
                among=self.goal.among,
                progress=lambda what, done, of: status.update(what),
                **self.goal.budget,  # type: ignore[arg-type]
            )
        left_out = [f"{count} {why}" for why, count in found.left_out.items() if count]
        if "latency" in self.goal.budget and (busy := unsteady(found)):
            self._print(
                f"warning: {busy} of the latencies spread widely: something else was running; repeat on a quiet "
                "machine in another out=, or give macs= in place of latency="
            )
        if not found.students:
            near = "; ".join(f"{titled(one.name)}: {over_budget(one)}" for one in found.nearest)
            why = f"the nearest, times the budget: {near}" if near else ", ".join(left_out)
            raise AttarError(f"no network fits the budget ({why}); allow more, or give among=")
        names = ", ".join(titled(one.name) for one in found.students)
        count = len(found.students)
        line = f"{count} candidate{'s' if count > 1 else ''}: {names}"
        self._print(f"{line}; left out: {', '.join(left_out)}" if left_out else line)
        return found

    def _rounds(self, students: Sequence[Measured], measure: Measure) -> tuple[Tried, ...]:
        """Train all for a part of the epochs, the better half for a larger one; the best first."""
        tried: dict[str, Tried] = {}
        failed: AttarError | None = None
        left = students
        for number, part in enumerate(RUNGS, 1):
            if len(left) == 1 and tried:
                break
            for place, one in enumerate(left, 1):
                recipe = self._recipe(one.name, self.folder / f"round{number}" / flat_name(one.name))
                epochs = max(1, round(part * recipe.epochs))
                recipe = replace(recipe, epochs=epochs, optim=for_epochs(recipe.optim, epochs, recipe.epochs))
                where = f"round {number} of {len(RUNGS)}, {place} of {len(left)}"
                self._print(f"{where}: {titled(one.name)}, {_epochs(recipe.epochs)}")
                try:
                    folder = self._run(recipe, only_bars(self.console)).folder
                except InUseError:
                    raise
                except AttarError as error:  # such as a loss that is not finite; the others are tried all the same
                    failed = error
                    self._print(f"    failed: {first_line(error)}")
                    continue
                value = float(read(folder / "metrics.jsonl")[-1][f"val_{measure.name}"])
                tried[one.name] = Tried(one, value, recipe.epochs, folder)
                self._print(f"    validation {measure.phrase(value)}")
            done = [tried[one.name] for one in left if one.name in tried and tried[one.name].epochs == recipe.epochs]
            if not done and failed is not None:
                raise failed
            best = ordered(done, measure)
            left = [one.cost for one in best[: max(1, (len(best) + 1) // 2)]]
        return ordered(list(tried.values()), measure)

    def _recipe(self, name: str, folder: Path) -> Recipe:
        """The recipe of one candidate, which learns from the cached teacher."""
        recipe, teacher = self.recipe, self.recipe.teacher
        recipe = replace(
            recipe,
            student=ModelRecipe(name, options=recipe.student.options),
            teacher=replace(teacher, cache=teacher.cache or str(self.folder / "teacher-logits")),
            data=replace(recipe.data, view_seed=recipe.data.view_seed or 0),
            alone="skip",
            seeds=1,
            export=[],
            out=str(folder),
        )
        if self.keys is None or set(self.keys) >= CHOSEN:
            return recipe
        parts = Parts(recipe, self.shared.samples_of(self.recipe, self.given), self._given(name))
        train = parts.splits(recipe.seed).train
        recipe, line = with_defaults(recipe, self.keys, train, parts.student(recipe.seed))
        if line and line not in self.lines:
            self.lines.add(line)
            self._print(line)
        return recipe

    def _given(self, name: str) -> Given:
        """The objects of one candidate's run."""
        return replace(self.given, student=self.networks.get(name))

    def _run(self, recipe: Recipe, console: Console) -> Summary:
        """A run, or the rest of one that was stopped."""
        folder, given = Path(str(recipe.out)), self._given(recipe.student.name)
        if not (folder / "recipe.yaml").is_file():
            return prepare(recipe, console, given, self.shared).run()
        if other := other_keys(recipe, recipe_of(folder, given)):
            raise AttarError(
                f"{folder} was trained with other {', '.join(other)}; give the same keys to go on, or another out="
            )
        return resume(folder, console, shared=self.shared, given=given)

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)


def other_keys(recipe: Recipe, kept: Recipe) -> list[str]:
    """The keys in which a recipe differs from that of a run in its place.

    >>> other_keys(Recipe(epochs=4), Recipe(epochs=8))
    ['epochs']
    """
    now, before = asdict(with_found_rate(recipe, kept)), asdict(kept)
    return [key for key in now if now[key] != before[key] and key not in ("track", "jobs", "checkpoint_minutes")]


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count > 1 else ''}"


def split_goal(keys: Mapping[str, Any]) -> tuple[Goal, dict[str, Any]]:
    """The goal in keys of a command, and the keys that are the recipe's.

    >>> goal, rest = split_goal({"within": "2", "latency": "5ms", "teacher": "resnet56"})
    >>> goal.within, dict(goal.budget), rest
    (2.0, {'latency': '5ms'}, {'teacher': 'resnet56'})
    """
    rest = {key: value for key, value in keys.items() if value is not None}
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
    names = among.split(",") if isinstance(among, str) else among if isinstance(among, list | tuple) else [among]
    return Goal(budget=budget, among=tuple(names), **numbers), rest


_NUMBERS: dict[str, Callable[[Any], Any]] = {"within": float, "candidates": int}
