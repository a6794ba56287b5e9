"""From a finished run to files for deployment: the folder, the measurements and the model card around the formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from attar.accel.runtime import environment
from attar.data import ImageSet, Samples, Splits, TensorSplits, divided, limit
from attar.deploy import Export, Student, Trained, export_student, find_trained, load
from attar.deploy.export import check_formats
from attar.deploy.formats import FORMATS
from attar.deploy.model_card import CardText
from attar.deploy.parity import measured
from attar.deploy.temperature import fitted_temperature
from attar.errors import AttarError, Stopped, first_line
from attar.experiments.build import Sets, split_seed
from attar.experiments.export_folder import continued, merged, taken_names
from attar.experiments.given_objects import GIVEN
from attar.experiments.sets_of_networks import check_same_classes, parts_of, recipe_of
from attar.files import write_json, write_text
from attar.report.exports import export_notes, export_table
from attar.report.run_page import write_report
from attar.tasks import Task

FOLDER = "export"
CALIBRATION = 512
# So many outputs of the test set are compared, 134 MB of each file's.
MOST_OUTPUTS = 2**25


def export_network(
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
    """Write a finished run's student as files; `attar.export` has the arguments and the errors."""
    wanted = [formats] if isinstance(formats, str) else formats
    check_formats(wanted)
    trained = find_trained(path)
    names = check_formats(wanted, "image_shape" in trained.card)
    folder = Path(out) if out else trained.folder / FOLDER
    if folder.exists() and not folder.is_dir():
        raise AttarError(f"out={folder} is a file; choose another folder")
    if trained.weights.parent.resolve() == folder.resolve():
        raise AttarError(f"out={folder} is where the student lies; choose another folder")
    if out and not (folder / "export.json").exists() and (taken := taken_names(folder)):
        raise AttarError(f"out={folder} holds {taken[0]} and no export.json, so it may be yours; choose another folder")
    if (name := str(trained.card["data"])).startswith(GIVEN) and data is None:
        raise AttarError(f"this run's data was an object in Python ({name}); give it: attar.export(..., data=...)")
    if data is None or isinstance(data, dict):
        # A check of files is no reason to fetch a data set; data.download=true is.
        data = {**({"download": False} if "image_shape" in trained.card else {}), **(data or {})}
    parts = parts_of(trained.card, trained.folder, data)
    check_same_classes(trained.card, trained.weights, parts)
    splits = parts.splits(parts.recipe.seed)
    if within is not None and not within >= 0:
        raise AttarError(f"within is {within}; give the points that eight bits may lose, 0 or more")
    if within is not None or temperature:
        splits = with_validation(trained, splits)
    check_flags(names, bake, within, temperature)
    budget = (within, temperature)
    done = written(trained, splits, parts.held.task, names, folder, bake, calibration, license, progress, budget)
    if folder == trained.folder / FOLDER and (trained.folder / "report.html").is_file():
        write_report(trained.folder)
    return done


def with_validation(trained: Trained, splits: Sets) -> Sets:
    """The sets with the validation images that the run kept apart: the same seed draws the same ones.

    Raises:
        AttarError: the samples are no images, the run kept none apart, or its recipe is not there.
    """
    if not isinstance(splits, Splits):
        raise AttarError("--within and --temperature are for classified images; leave them out")
    if splits.val is not None:
        return splits
    place = trained.weights.parent
    recipe = recipe_of(trained.card, place)
    if recipe is None:
        raise AttarError(
            "--within and --temperature need the validation images that the run kept apart, and no recipe.yaml of it "
            f"is in {place} or above; give the run's folder, or leave them out"
        )
    if not recipe.data.val_fraction:
        raise AttarError("--within and --temperature need validation images; this run kept none (data.val_fraction=0)")
    # A teacher that is trained several times, each with a seed of its own, sees the same images every time.
    seed = recipe.seed if place.name.startswith("teacher") else int(trained.card.get("seed", recipe.seed))
    return divided(splits, recipe.data.val_fraction, split_seed(recipe, seed))


def check_flags(names: Sequence[str], bake: bool, within: float | None, temperature: bool) -> None:
    """Refuse what none of the formats would hold.

    Raises:
        AttarError: a flag is given, and no format that it changes.
    """
    kinds = [FORMATS[name] for name in names]
    graph, small = any(kind.graph for kind in kinds), any(kind.calibrated for kind in kinds)
    for flag, given, changed, example in (
        ("--bake", bake, graph, "onnx"),
        ("--temperature", temperature, graph, "onnx"),
        ("--within", within is not None, small, "onnx-int8"),
    ):
        if given and not changed:
            raise AttarError(f"{flag} changes nothing in {', '.join(names)}; name {example} too, or leave {flag} out")


def export_run(student: Path, formats: Sequence[str], splits: Sets, task: Task, console: Console) -> None:
    """What `export=` of a recipe asks for, after the run; what fails is a line, and files that are there are kept.

    Args:
        student: the weights that the run deployed.
        formats: as the recipe names them.
        splits: the run's sets.
        task: what was learnt.
        console: where lines go.
    """
    trained = find_trained(student)
    if (trained.folder / FOLDER / "export.json").is_file():
        return
    try:
        with console.status("exporting") as status:
            done = written(
                trained,
                splits,
                task,
                check_formats(formats, "image_shape" in trained.card),
                trained.folder / FOLDER,
                progress=lambda name: status.update(f"exporting {name}"),
            )
        reasons = [f"{name}: {reason}" for name, reason in done.failures.items()]
    except Stopped:
        raise
    except Exception as error:  # the student is on the disk, and the report is still to be written
        reasons = [first_line(error)]
    for reason in reasons:
        line = f"warning: not exported: {reason}; attar export {quote(str(trained.folder))} tries again"
        console.print(line, markup=False, soft_wrap=True)


def written(
    trained: Trained,
    splits: Sets,
    task: Task,
    names: Sequence[str],
    folder: Path,
    bake: bool = False,
    calibration: int | None = None,
    license: str = "unknown",
    progress: Callable[[str], object] | None = None,
    budget: tuple[float | None, bool] = (None, False),
) -> Export:
    """The files of a student, checked on its test set, with what was measured and a model card beside them."""
    few, test = _calibration(splits, calibration), _compared(splits.test)
    net, (within, calibrated) = load(trained.weights), budget
    student = Student(net, trained.card, test, few, task, bake, within, splits.train, splits.val)
    if calibrated:
        student = replace(student, temperature=_temperature(student))
    earlier = continued(student, folder)
    done = export_student(student, folder, names, progress)
    _describe(trained, merged(earlier, done, names), license)
    return done


def _temperature(student: Student) -> float:
    """What the student's logits are divided by so that its probabilities fit the validation images.

    Raises:
        AttarError: the student puts out no logits of classes.
    """
    if student.task.output != "logits" or not isinstance(student.val, ImageSet):
        raise AttarError("--temperature is for classifiers; leave it out")
    logits = measured(student.net, student.val, lambda inputs: inputs, student.task.metrics())[0]
    return fitted_temperature(logits, student.val.labels)


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
    text = f"{table.markdown()}\n\n{export_notes(done)}"
    write_json(done.folder / "export.json", {**done.to_json(), "environment": {**environment(), **_versions()}})
    failures = "".join(f"\n- {name}: {reason}\n" for name, reason in done.failures.items())
    write_text(done.folder / "export.md", f"## {table.title}\n\n{text}\n{failures}")
    if done.files:
        write_text(done.folder / "README.md", CardText(trained, done, text, license).text())


def _versions() -> dict[str, str]:
    """Of the packages that exporting adds, as far as they are installed."""
    found = {}
    for name in dict.fromkeys(package for kind in FORMATS for package in FORMATS[kind].packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
