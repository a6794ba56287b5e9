"""Start a job from a recipe in a free folder, or resume one from its folder."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import fields, replace
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from rich.console import Console

from attar.accel.runtime import find_device
from attar.deploy.export import check_formats
from attar.deploy.formats import FORMATS
from attar.distributed.team import begun_here, join, surviving
from attar.errors import AttarError, Stopped
from attar.experiments.baseline import baseline_folder
from attar.experiments.build import Parts, teacher_parts
from attar.experiments.chain import chain_links, check_chain, first_weights, links_in, run_chain
from attar.experiments.defaults import CHOSEN, with_defaults
from attar.experiments.finished_job import catch_up, finished_summary
from attar.experiments.given_objects import Given, refuse_given
from attar.experiments.job import Job
from attar.experiments.network_check import check_networks
from attar.experiments.networks_of_runs import with_networks_of_runs
from attar.experiments.runtime_record import choices_of, read_runtime
from attar.experiments.shared_resources import SharedResources
from attar.extras import require
from attar.files import write_text
from attar.methods import method_info
from attar.methods.registry import METHODS, check_options
from attar.plugins import changed_imports, naming_imports, record_imports
from attar.profiling import threads
from attar.recipe import Recipe, flat_name, read_recipe, to_yaml
from attar.report.summary import Summary
from attar.track import Tracking
from attar.train.progress import default_console

Beside = Callable[[], object]


# Keys that may differ where a run repeats another's choices by timing: none of them changes what a step computes.
REPEATED = ("out", "seed", "seeds", "alone", "track", "jobs", "checkpoint_minutes", "epochs", "optim", "select")


def start(
    recipe: Recipe,
    console: Console | None = None,
    given: Given | None = None,
    beside: Beside | None = None,
    file: str | Path | None = None,
    keys: Collection[str] | None = None,
) -> Summary:
    """Check a recipe, choose its folder and run it.

    Args:
        recipe: what to do.
        console: where to print.
        given: objects in place of names.
        beside: as for `Job`.
        file: what the recipe was read from. Where it is a run's recipe.yaml, the run's choices by timing hold again.
        keys: the recipe's keys that somebody gave; settings of the training are chosen for the others. None: all.
    """
    console = console or default_console()
    recipe = without_labels(recipe, keys)
    if recipe.chain:
        return start_chain(recipe, console, given, beside, keys)
    like, shared = earlier_choices(recipe, file, console), SharedResources()
    if keys is not None and not set(keys) >= CHOSEN:
        recipe = completed(recipe, keys, given or Given(), shared, console)
    return prepare(recipe, console, given, shared, beside, like).run()


def without_labels(recipe: Recipe, keys: Collection[str] | None) -> Recipe:
    """A method of features (embed, unic) needs no labels: task=features, unless the recipe names another.

    Raises:
        AttarError: the student is to be trained alone, without labels.
    """
    name = recipe.method.name
    if not recipe.task.name and name in METHODS and not METHODS[name].cls.needs_labels:
        recipe = replace(recipe, task=replace(recipe.task, name="features"))
    if recipe.task.name != "features":
        return recipe
    if "alone" in (keys or ()) and recipe.alone != "skip":
        raise AttarError(
            f"alone={recipe.alone}: without labels the student alone has nothing to learn from; leave it out"
        )
    return replace(recipe, alone="skip")


def completed(recipe: Recipe, keys: Collection[str], given: Given, shared: SharedResources, console: Console) -> Recipe:
    """The recipe with the settings that were not given (`attar.experiments.defaults`), and a line that names them.

    The samples that are read for it are kept in `shared`, for the job.
    """
    with surviving():
        recipe = looked_up(recipe, console)
        leader = join().leader
        if join().size == 1:
            free_folder(recipe)
        parts = Parts(recipe, shared.samples_of(recipe, given), given)
        with join().leader_first(), (console if leader else Console(quiet=True)).status(f"reading {recipe.data.name}"):
            splits = parts.splits(recipe.seed)
        # Layers of a teacher, which is not built yet, change none of them.
        bare = replace(recipe, student=replace(recipe.student, weights=None)) if parts.starts_from_teacher else recipe
        student = Parts(bare, parts.held, given).student(recipe.seed)
        recipe, line = with_defaults(recipe, keys, splits.train, student)
    if line and leader:
        console.print(line, markup=False, soft_wrap=True)
    return recipe


def earlier_choices(recipe: Recipe, file: str | Path | None, console: Console) -> dict[str, Any]:
    """What the run around a recipe.yaml chose by timing, where this recipe computes the same steps."""
    folder = Path(file).parent if file else Path()
    if file is None or Path(file).name != "recipe.yaml" or not (found := choices_of(folder)):
        return {}
    before = read_recipe(file)
    keys = [key.name for key in fields(Recipe) if key.name not in REPEATED]
    if others := [key for key in keys if getattr(before, key) != getattr(recipe, key)]:
        line = f"precision and engines are chosen anew: other {', '.join(others)} than the run in {folder}"
        console.print(line, markup=False, soft_wrap=True)
        return {}
    console.print(f"precision, engines and threads as in {folder}", markup=False, soft_wrap=True)
    return found


def resume(
    folder: str | Path,
    console: Console | None = None,
    beside: Beside | None = None,
    accept_changes: bool = False,
    shared: SharedResources | None = None,
    given: Given | None = None,
) -> Summary:
    """Go on with a run from its folder; of a finished one nothing is measured again, only trackers catch up.

    Args:
        folder: the run's.
        console: where to print.
        beside: as for `Job`.
        accept_changes: go on although the data or the given weights have changed.
        shared: what the process has read already.
        given: the objects that the run began with.
    """
    recipe, folder = recipe_of(folder, given), Path(folder)
    if recipe.chain:
        return follow_chain(recipe, folder, console or default_console(), beside, accept_changes)
    done = finished_summary(recipe, folder)
    if done is None:
        return reopen(folder, console, shared, beside, accept_changes, given).run()
    catch_up(recipe, folder, console or default_console())
    return done


def start_chain(
    recipe: Recipe,
    console: Console,
    given: Given | None,
    beside: Beside | None,
    keys: Collection[str] | None = None,
) -> Summary:
    """Check a chain and all its links, choose its folder, write its recipe and run every link.

    Raises:
        AttarError: it or a link cannot run; or it was given objects, or several processes.
    """
    check_chain(recipe)
    if (given and given.any) or join().size > 1:
        raise AttarError("a chain takes names and runs in one process; leave objects and torchrun out")
    shared = SharedResources()
    named = replace(
        recipe,
        chain=[],
        teacher=replace(recipe.teacher, name=recipe.chain[0], weights=next(iter(first_weights(recipe)), None)),
        student=replace(recipe.student, name=recipe.chain[-1]),
    )
    folder = free_folder(named)
    if keys is not None and not set(keys) >= CHOSEN:
        whole = completed(named, keys, Given(), shared, console)
        recipe = replace(recipe, optim=whole.optim, batch_size=whole.batch_size, epochs=whole.epochs)
    check_links(recipe, folder, shared)
    write_text(folder / "recipe.yaml", to_yaml(recipe))
    record_imports(folder)
    return follow_chain(recipe, folder, console, beside)


def check_links(recipe: Recipe, folder: Path, shared: SharedResources) -> None:
    """Try a batch of every link of a chain; networks that links train stand in with their first weights.

    Raises:
        AttarError: what does not hold, with the link that it does not hold for.
    """
    for link in chain_links(recipe, links_in(folder)):
        files = [weights or "" for _, weights in teacher_parts(link.teacher)]
        there = ["" if Path(file).is_relative_to(folder) else file for file in files]
        teacher = replace(link.teacher, weights=",".join(there) if any(there) else None)
        try:
            prepare(replace(link, teacher=teacher), Console(quiet=True), shared=shared)
        except AttarError as error:
            raise AttarError(f"link {link.teacher.name} to {link.student.name}: {error}") from None


def follow_chain(
    recipe: Recipe, folder: Path, console: Console, beside: Beside | None, accept_changes: bool = False
) -> Summary:
    """Run the links of a chain that are not finished.

    Raises:
        Stopped: the process was asked to stop; it names the chain's folder.
    """

    def run_link(link: Recipe) -> Summary:
        if (Path(str(link.out)) / "recipe.yaml").is_file():
            return resume(str(link.out), console, beside, accept_changes)
        return start(link, console, beside=beside)

    def log(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    try:
        return run_chain(recipe, links_in(folder), run_link, log)
    except Stopped:
        raise Stopped(str(folder)) from None


def prepare(
    recipe: Recipe,
    console: Console | None = None,
    given: Given | None = None,
    shared: SharedResources | None = None,
    beside: Beside | None = None,
    like: dict[str, Any] | None = None,
) -> Job:
    """The job of a recipe, checked, in the folder it chose; nothing is written yet."""
    console = console or default_console()
    with surviving():
        recipe = looked_up(recipe, console)
        folder = join().from_leader(lambda: free_folder(recipe))
        objects, common = given or Given(), shared or SharedResources()
        return Job(recipe, folder, console, objects, common, beside, like=like or {}).check()


def reopen(
    folder: str | Path,
    console: Console | None = None,
    shared: SharedResources | None = None,
    beside: Beside | None = None,
    accept_changes: bool = False,
    given: Given | None = None,
) -> Job:
    """The job that a folder holds.

    Raises:
        AttarError: there is none, or its data or given weights have changed and the change is not accepted.
    """
    folder, recipe = Path(folder), recipe_of(folder, given)
    console = console or default_console()
    for name in changed_imports(folder):
        console.print(f"warning: {name} has changed since this run began", markup=False, soft_wrap=True)
    recorded, _ = read_runtime(folder, torch.device("cpu"))
    count = recorded.teacher_threads if recorded else None
    with surviving(), naming_imports(folder), threads(count or torch.get_num_threads()):
        join()
        common = shared or SharedResources()
        return Job(recipe, folder, console, given or Given(), common, beside, accept_changes).check()


def recipe_of(folder: str | Path, given: Given | None = None) -> Recipe:
    """The recipe of the run in a folder.

    Args:
        folder: the run's.
        given: the objects that the run began with, if it began with some.

    Raises:
        AttarError: there is no run, or it was made of objects that its folder cannot build and that are not given.
    """
    folder = Path(folder)
    if not (folder / "recipe.yaml").is_file():
        raise AttarError(f"{folder} holds no run (no recipe.yaml); give the folder that `attar distill` printed")
    with naming_imports(folder):
        recipe = read_recipe(folder / "recipe.yaml")
    if given is None or not given.any:
        refuse_given(recipe)
    return recipe


def looked_up(recipe: Recipe, console: Console) -> Recipe:
    """The recipe with the networks of runs, everything that it names checked; libraries of networks take a while."""
    with console.status("looking up the networks"):
        recipe = with_networks_of_runs(recipe)
        check_names(recipe)
    return recipe


def check_names(recipe: Recipe) -> None:
    """A student is named, and a teacher where the method needs one; whatever else is named is there."""
    if not recipe.student.name:
        raise AttarError("no student is named; give student=NAME, a small network (`attar list networks`)")
    name = recipe.method.name
    if ("+" in name or method_info(name).needs_teacher) and not recipe.teacher.name:
        raise AttarError(f"method {name!r} needs a teacher; give teacher=NAME and teacher.weights=FILE")
    check_options(name, recipe.method.options)
    for one in check_formats(recipe.export) if recipe.export else ():
        for package in FORMATS[one].packages:
            require(package, f"export={one}", FORMATS[one].extra)
    find_device(recipe.device)
    Tracking(recipe.track, Path())
    if recipe.alone not in ("train", "skip"):
        baseline_folder(Path(recipe.alone), recipe.seed)
    check_networks(recipe)


def free_folder(recipe: Recipe) -> Path:
    """Where a recipe may start, or go on where torchrun started it again.

    Raises:
        AttarError: the place is taken.
    """
    folder = Path(recipe.out) if recipe.out else fresh_folder(recipe)
    if folder.exists() and not folder.is_dir():
        raise AttarError(f"out={folder} is a file; choose another folder")
    if (folder / "recipe.yaml").exists() and not begun_here(folder, to_yaml(recipe)):
        raise AttarError(
            f"{folder} holds a run already; `attar resume {quote(str(folder))}` goes on with it, or choose another out="
        )
    return folder


def fresh_folder(recipe: Recipe) -> Path:
    """runs/METHOD-TEACHER-STUDENT-DATA, numbered where that exists."""
    data = Path(recipe.data.name).name
    base = Path("runs") / flat_name(recipe.method.name, recipe.teacher.name, recipe.student.name, data)
    number = 1
    while (folder := base if number == 1 else base.with_name(f"{base.name}-{number}")).exists():
        if begun_here(folder, to_yaml(recipe)):
            break
        number += 1
    return folder
