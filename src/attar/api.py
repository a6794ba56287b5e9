"""The one-call interface: `attar.distill(...)` and its siblings take what a recipe says, as keyword arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any

from rich.console import Console

from attar.accel.runtime import environment, find_device
from attar.data import ImageSet, Samples, TensorSplits, batches_of, limit, list_datasets
from attar.deploy import Export, Student, Trained, export_student, find_trained, load, load_facts
from attar.deploy.export import check_formats
from attar.deploy.formats import FORMATS
from attar.deploy.model_card import CardText
from attar.deploy.predict import of_run
from attar.errors import AttarError, UnknownNameError
from attar.experiments import launch
from attar.experiments.build import GIVEN, Given, Parts, Sets, held_for, take_objects
from attar.files import write_json, write_text
from attar.metrics.predictions import evaluate_each
from attar.plugins import naming_imports
from attar.recipe import Recipe, read_recipe
from attar.report.compare_page import compare_runs
from attar.report.comparison import Comparison
from attar.report.exports import export_notes, export_table
from attar.report.summary import Summary
from attar.sizes import shortest
from attar.tasks import data_names

CALIBRATION = 512
# So many outputs of the test set are compared, 134 MB of each file's.
MOST_OUTPUTS = 2**25


def distill(recipe: str | Path | None = None, *, console: Console | None = None, **values: Any) -> Summary:
    """Distil a small network from a large one.

    Args:
        recipe: a YAML file, or the name of a packaged recipe; the keywords below override it. A run's recipe.yaml
            brings the run's precision, engines and threads along.
        console: where progress goes; by default the terminal.
        values: any key of the recipe: teacher, student, data, method, epochs, seeds, out, optim={...}, ... Teacher (one
            or a list) and student may be networks, and data a data set of (image, label) pairs, a (train, test) pair of
            them or `Splits`; such a run cannot be resumed from its folder.

    Returns:
        The summary: tables, the gap between distilled and alone, and the run's folder.

    Raises:
        AttarError: something in the recipe is wrong; nothing has been written then.
    """
    values, given = take_objects(values)
    return launch.start(read_recipe(recipe, **values), console, given, file=recipe)


def train_model(recipe: str | Path | None = None, *, console: Console | None = None, **values: Any) -> Summary:
    """Train a network on the labels alone: a teacher, or a baseline. Arguments as in `distill`, without a teacher."""
    values, given = take_objects(values)
    return launch.start(plain(read_recipe(recipe, **values)), console, given, file=recipe)


def plain(recipe: Recipe) -> Recipe:
    """The recipe without distillation."""
    if recipe.teacher.name:
        raise AttarError("attar train has no teacher; leave teacher= out, or use attar distill")
    recipe.method.name, recipe.method.options, recipe.alone = "supervised", {}, "skip"
    return recipe


def resume(folder: str | Path, *, console: Console | None = None, accept_changes: bool = False) -> Summary:
    """Go on with an interrupted run; of a finished one the summary is read.

    Args:
        folder: the run's.
        console: where progress goes; by default the terminal.
        accept_changes: go on although the data or the given weights are not those the run began with.

    Raises:
        AttarError: there is no run, or its data or given weights have changed.
    """
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


def evaluate(
    path: str | Path, *, teacher: str | Path | None = None, device: str = "auto", **data: Any
) -> dict[str, Any]:
    """Score a saved network on a test set.

    Args:
        path: a run's folder or a .safetensors file with its JSON.
        teacher: another saved network to compare with (agreement, KL).
        device: cpu, cuda or auto.
        data: name, root and the other keys of the recipe's data section; the set, the size and the normalisation
            default to what it was trained with.

    Returns:
        The task's measures by name and "count", the samples; of classifiers "per_class" too.
    """
    file = Path(path) / "student.safetensors" if Path(path).is_dir() else Path(path)
    net, card = load(path), load_facts(file)
    where = find_device(device)
    parts = _parts(card, Path(path), file, data)
    other = load(teacher).to(where) if teacher else None
    test, metrics = parts.splits(parts.recipe.seed).test, parts.held.task.metrics()
    return evaluate_each(net.to(where), batches_of(test, where), metrics, other)[0]


def predict(
    model: str | Path, files: str | Path | Sequence[str | Path], *, top: int = 3, tokens: int = 100
) -> list[Any]:
    """What a model makes of files: labels of images; or what its task makes of texts, images and arrays.

    A language model continues a text, a counting network counts the objects in an image, and every run takes arrays
    (.npz with "inputs").

    Args:
        model: a run's folder, an export's folder, or an exported file.
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
        progress: called with the name of each format before it is written.

    Returns:
        The files with their measurements, and one line for each format that failed.

    Raises:
        AttarError: the run is not finished, a format is unknown, or the data are not found; nothing has been written.
    """
    wanted = [formats] if isinstance(formats, str) else formats
    check_formats(wanted)
    trained = find_trained(path)
    names = check_formats(wanted, "image_shape" in trained.card)
    folder = Path(out) if out else trained.folder / "export"
    if folder.exists() and not folder.is_dir():
        raise AttarError(f"out={folder} is a file; choose another folder")
    if trained.weights.parent.resolve() == folder.resolve():
        raise AttarError(f"out={folder} is where the student lies; choose another folder")
    if (name := str(trained.card["data"])).startswith(GIVEN) and data is None:
        raise AttarError(f"this run's data was an object in Python ({name}); give it: attar.export(..., data=...)")
    if data is None or isinstance(data, dict):
        # A check of files is no reason to fetch a data set; data.download=true is.
        data = {**({"download": False} if "image_shape" in trained.card else {}), **(data or {})}
    parts = _parts(trained.card, trained.folder, trained.weights, data)
    splits = parts.splits(parts.recipe.seed)
    few, test = _calibration(splits, calibration), _compared(splits.test)
    student = Student(load(trained.weights), trained.card, test, few, parts.held.task, bake)
    done = export_student(student, folder, names, progress)
    _describe(trained, done, license)
    return done


def _compared(test: Samples) -> Samples:
    """The test samples that files are compared on: all images, of others as many as there is room for outputs."""
    if isinstance(test, ImageSet):
        return test
    each = test.outputs * max(1, prod(test.labels.shape[1:]))
    return test.subset(slice(0, max(1, MOST_OUTPUTS // each)))


def _calibration(splits: Sets, count: int | None) -> Samples:
    """Training images as the network sees them without augmentation; fewer where there are not as many."""
    if isinstance(splits, TensorSplits):
        return splits.train
    classes = splits.num_classes
    if count is not None and count < classes:
        raise AttarError(f"calibration is {count}; give {classes} images or more, one of each class")
    return limit(splits.train, min(count or max(CALIBRATION, classes), len(splits.train)), seed=0)


def _describe(trained: Trained, done: Export, license: str) -> None:
    """What stands beside the files: the measurements twice, and the model card."""
    table = export_table(done)
    measured = f"{table.markdown()}\n\n{export_notes(done)}"
    write_json(done.folder / "export.json", {**done.to_json(), "environment": {**environment(), **_versions()}})
    failures = "".join(f"\n- {name}: {reason}\n" for name, reason in done.failures.items())
    write_text(done.folder / "export.md", f"## {table.title}\n\n{measured}\n{failures}")
    if done.files:
        write_text(done.folder / "README.md", CardText(trained, done, measured, license).text())


def _versions() -> dict[str, str]:
    """Of the packages that exporting adds, as far as they are installed."""
    found = {}
    for name in dict.fromkeys(package for kind in FORMATS for package in FORMATS[kind].packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _parts(card: dict[str, Any], path: Path, file: Path, data: Any) -> Parts:
    """The task and the data of a saved network, as it was trained with them, unless keys say otherwise.

    Raises:
        AttarError: the data have other classes than the network, or the task was an object.
    """
    keys = data if isinstance(data, dict) else {}
    with naming_imports(path):
        named = str(card.get("task") or "")
        if named.startswith(GIVEN):
            raise AttarError(f"this run's task was an object in Python ({named}), so its folder cannot rebuild it")
        task = {"name": named, "options": card.get("task_options") or {}}
        recipe = read_recipe(data=_data_keys(card, path, keys), task=task)
        parts = Parts(recipe, held_for(recipe), Given(data=None if isinstance(data, dict) else data))
        splits = parts.splits(recipe.seed)
    if list(splits.classes) != list(card["classes"]):
        raise AttarError(
            f"{file} knows {len(card['classes'])} classes ({card['data']}), {recipe.data.name} has "
            f"{splits.num_classes} other ones; give the data it was trained on"
        )
    if splits.num_classes != card.get("outputs", splits.num_classes):
        raise AttarError(
            f"{file} has {card['outputs']} outputs, {recipe.data.name} asks for {splits.num_classes}; give data like "
            "those it was trained on (the tokenizer of a language model)"
        )
    return parts


def _data_keys(card: dict[str, Any], path: Path, keys: dict[str, Any]) -> dict[str, Any]:
    """The data section of a saved network with these changes; a folder that was named by its path has no other root."""
    changes = dict(keys)
    same = _data_of(card, path, changes.get("name"))
    known = same["name"] in (*list_datasets(), *data_names()) or same["name"].startswith(GIVEN)
    if "name" not in changes and not known:
        name = str(changes.pop("root", same["name"]))
        if not Path(name).expanduser().is_dir():
            raise UnknownNameError(f"the images are not in {name}; give data.root=FOLDER, where they are now")
        same = {**same, "name": name, "root": None}
    return {**same, **changes}


def _data_of(card: dict[str, Any], path: Path, other: str | None) -> dict[str, Any]:
    """The images as the network was trained with: size, normalisation, and the set unless another is named."""
    seen: dict[str, Any] = {"val_fraction": 0}
    if "image_shape" in card:
        seen |= {"mean": card["mean"], "std": card["std"], "image_size": shortest(card["image_shape"][1:])}
    if other is not None:
        return {"name": other, **seen}
    same = {"name": card["data"], **card.get("data_options", {}), **seen}
    # A seed's folder lies in its job's, and so do alone/ and teacher/.
    for place in (path, *path.parents[:2]):
        if (place / "recipe.yaml").is_file():
            recipe = read_recipe(place / "recipe.yaml")
            return {**same, "root": recipe.data.root} if recipe.data.name == card["data"] else same
    return same
