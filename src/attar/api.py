"""The one-call interface: `attar.distill(...)` and its siblings take what a recipe says, as keyword arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Unpack

from rich.console import Console
from torch import nn

from attar.deploy import Export
from attar.deploy.predict import of_run
from attar.errors import AttarError
from attar.experiments import launch
from attar.experiments.evaluation import evaluate_network
from attar.experiments.exporting import export_network
from attar.experiments.given_objects import take_objects
from attar.experiments.networks_of_runs import suggest_for
from attar.experiments.student_halving import search_students, split_goal
from attar.plugins import import_files
from attar.profiling import profile as measure_network
from attar.profiling import suggest as find_students
from attar.recipe import Recipe, given_keys, read_recipe
from attar.recipe.keywords import RecipeKeys, SearchKeys, with_keys
from attar.report.compare_page import compare_runs
from attar.report.comparison import Comparison
from attar.report.evaluation import Evaluation
from attar.report.exports import CostPage
from attar.report.search_page import Found
from attar.report.suggestions import SuggestionPage
from attar.report.summary import Summary
from attar.train.progress import default_console


@with_keys(RecipeKeys)
def distill(
    recipe: str | Path | None = None, *, console: Console | None = None, **values: Unpack[RecipeKeys]
) -> Summary:
    """Distil a small network from a large one.

    Args:
        recipe: a YAML file, or the name of a packaged recipe; the keywords below override it. A run's recipe.yaml
            brings the run's precision, engines and threads along.
        console: where progress goes; by default the terminal.
        values: any key of the recipe: teacher, student, data, method, epochs, seeds, out, optim={...}, ... Teacher (one
            or a list) and student may be networks, and data a data set of (image, label) pairs, a (train, test) pair of
            them or `Splits`; such a run cannot be resumed from its folder. It can where a function of a module makes
            them (student=nets.small, or "nets:small"). An optimiser, a schedule, metrics, augmentations and callbacks
            (track=) may be objects as well; see docs/objects.md.

    Returns:
        The summary: tables, the gap between distilled and alone, and the run's folder.

    Raises:
        AttarError: something in the recipe is wrong; nothing has been written then.
    """
    named, given = take_objects(dict(values))
    keys = given_keys(recipe, **named)
    return launch.start(read_recipe(recipe, **named), console, given, file=recipe, keys=keys)


@with_keys(RecipeKeys)
def train_model(
    recipe: str | Path | None = None, *, console: Console | None = None, **values: Unpack[RecipeKeys]
) -> Summary:
    """Train a network on the labels alone: a teacher, or a baseline. Arguments as in `distill`, without a teacher."""
    named, given = take_objects(dict(values))
    keys = given_keys(recipe, **named)
    whole = plain(read_recipe(recipe, **named), given_keys(None, **named))
    return launch.start(whole, console, given, file=recipe, keys=keys)


def plain(recipe: Recipe, given: Collection[str]) -> Recipe:
    """The recipe without distillation.

    Args:
        recipe: of any training; the method of a recipe's file is left out.
        given: the dotted keys that were given beside the file.

    Raises:
        AttarError: a teacher or a method that learns from one is asked for.
    """
    if recipe.teacher.name:
        raise AttarError("attar train has no teacher; leave teacher= out, or use attar distill")
    if "method.name" in given and recipe.method.name != "supervised":
        raise AttarError(
            f"attar train learns from labels alone; leave method={recipe.method.name} out, or use attar distill"
        )
    recipe.method.name, recipe.method.options, recipe.alone = "supervised", {}, "skip"
    return recipe


@with_keys(SearchKeys)
def search(*, console: Console | None = None, **values: Unpack[SearchKeys]) -> Found:
    """Look for the best student under a budget: candidates are trained in successive halving, the winner in full.

    Args:
        console: where progress goes; by default the terminal.
        values: latency, size, macs, params, memory (the budget, "5ms", "1MB"); within (points below the teacher on the
            test set); candidates (how many to try, 8); among (names, patterns of names, functions that make networks,
            or networks); and any key of a recipe but student, teacher and data as objects and functions too.

    Returns:
        The candidates with their costs and validation scores, and the winner's run; in a notebook a table.

    Raises:
        AttarError: nothing fits the budget, or something in the recipe is wrong.
    """
    goal, rest = split_goal(values)
    named, given = take_objects(rest)
    keys = given_keys(None, **named)
    return search_students(read_recipe(**named), goal, console or default_console(), given, keys)


def resume(
    folder: str | Path, *, console: Console | None = None, accept_changes: bool = False, imports: Sequence[str] = ()
) -> Summary:
    """Go on with an interrupted run; of a finished one the summary is read.

    Args:
        folder: the run's.
        imports: modules and Python files to import first: those whose functions the run names as module:function.
        console: where progress goes; by default the terminal.
        accept_changes: go on although the data or the given weights are not those the run began with.

    Raises:
        AttarError: there is no run, or its data or given weights have changed.
    """
    import_files(imports)
    return launch.resume(folder, console, accept_changes=accept_changes)


def compare(*runs: str | Path, out: str | Path = "compare.html") -> Comparison:
    """Put finished runs side by side: one table, accuracy against cost, curves, and differences where seeds coincide.

    Args:
        runs: two or more folders; the others are measured against the first.
        out: the HTML page; the table goes beside it as .md and .csv.

    Returns:
        The comparison: its tables, the differences with their intervals, and where the page is.

    Raises:
        AttarError: a folder holds no finished run, or the runs have different test sets; nothing has been written.
    """
    return compare_runs(runs, out)


@wraps(measure_network)
def profile(*arguments: Any, **options: Any) -> CostPage:
    """`attar.profiling.profile`; a notebook shows the result as a table."""
    return CostPage(**vars(measure_network(*arguments, **options)))


@wraps(find_students)
def suggest(teacher: str | nn.Module, **options: Any) -> SuggestionPage:
    """`attar.profiling.suggest`, whose teacher may be a run's folder too; a notebook shows the result as a table."""
    return SuggestionPage(**vars(suggest_for(teacher, **options)))


def evaluate(
    path: str | Path,
    data: str | Path | None = None,
    *,
    network: str | None = None,
    teacher: str | Path | None = None,
    device: str = "auto",
    **keys: Any,
) -> Evaluation:
    """Score a saved network on a test set.

    Args:
        path: a run's folder, a .safetensors file with its JSON, an exported file (.onnx, .pt2), or plain weights (.pth)
            beside `network`.
        data: a folder or the name of a data set; None: what the network was trained on. A folder without a test set is
            tested on as a whole; its classes are found by name, and may be fewer than the network's.
        network: the name of the network that the weights are of.
        teacher: another saved network to compare with (agreement, KL).
        device: cpu, cuda, xpu, mps or auto.
        keys: name, root and the other keys of the recipe's data section; the set, the size and the normalisation
            default to what it was trained with.

    Returns:
        A mapping of the task's measures by name and "count", the samples; of classifiers "per_class" too. It also has
        the tables, the confusion matrix and the mistakes, and `write(folder)` keeps them.

    Raises:
        AttarError: a file is missing, damaged or not ours, or the data have classes that the network lacks.
    """
    return evaluate_network(path, data, network=network, teacher=teacher, device=device, keys=keys)


def predict(
    model: str | Path, files: str | Path | Sequence[str | Path], *, top: int = 3, tokens: int = 100
) -> list[Any]:
    """What a model makes of files: labels of images; or what its task makes of texts, images and arrays.

    A language model continues a text, a counting network counts the objects in an image, and every run takes arrays
    (.npz with "inputs").

    Args:
        model: a run's folder, an export's folder, or an exported ONNX file.
        files: one or several; folders are searched for images.
        top: how many classes a classifier gives for each image.
        tokens: how many tokens a language model adds.

    Returns:
        An object for each file, with `file`, `error` and `to_json()`: `Prediction` with `labels`, or `SamplePrediction`
        with `text` and `values`.

    Raises:
        AttarError: the model cannot be used; a file that cannot be read has its own `error`.
    """
    return list(of_run(model, [files] if isinstance(files, str | Path) else files, top, tokens))


def export(
    path: str | Path,
    formats: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    bake: bool = False,
    calibration: int | None = None,
    license: str = "unknown",
    data: Any = None,
    within: float | None = None,
    temperature: bool = False,
    progress: Callable[[str], object] | None = None,
) -> Export:
    """Write a finished run's student as files for deployment, each of them checked against it on the test set.

    Besides the files, the folder gets export.json, export.md and a model card (README.md).

    Args:
        path: a run's folder or a .safetensors file with its JSON; of a run over several seeds the first seed's student.
        formats: names of `attar.list_formats()`; none means all that are made by default.
        out: the folder; None: export/ in the run's folder.
        bake: whether the formats with a graph take uint8 pixels and normalise them inside.
        calibration: training images that the 8-bit scales are read off, the same share of every class; None: 512, or
            one of each class where there are more.
        license: for the model card, as hubs name it ("apache-2.0").
        data: keys of the recipe's data section where they differ from the run's ({"root": ...}), or, for a run on
            objects, what was given to it.
        within: how many points of the primary measure eight bits may lose, on the validation images and on the test
            set. Post-training quantisation is tried first, then quantisation-aware distillation from the float student;
            None: what is lost is only reported.
        temperature: whether the graph formats divide logits by a temperature that is fitted on the validation images.
        progress: called with the name of each format before it is written.

    Returns:
        The files with their measurements, and one line for each format that failed.

    Raises:
        AttarError: the run is not finished, a format is unknown, or the data are not found; nothing has been written.
    """
    return export_network(
        path,
        formats,
        out=out,
        bake=bake,
        calibration=calibration,
        license=license,
        data=data,
        within=within,
        temperature=temperature,
        progress=progress,
    )
