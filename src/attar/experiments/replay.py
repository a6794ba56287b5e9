"""`attar replay`: run a failing batch again and find where the first non-finite value appears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from attar.accel.runtime import Runtime
from attar.batch import Address, Batch
from attar.errors import AttarError, first_line
from attar.experiments.given_objects import refuse_given
from attar.experiments.job import Job
from attar.experiments.runtime_record import read_runtime
from attar.experiments.training import Training
from attar.plugins import naming_imports
from attar.profiling import threads
from attar.recipe import read_recipe
from attar.report.tables import Table
from attar.safety.nonfinite import Finding, examine
from attar.train.label_losses import smooth_labels, weigh_labels
from attar.train.progress import default_console

AGAIN = "resume the run to write it again"


def _tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, Tensor) for one in value.values())


def _tensor_or_none(value: Any) -> bool:
    return value is None or isinstance(value, Tensor)


# What a failure.pt holds, and which values it may have.
KEYS: dict[str, Callable[[Any], bool]] = {
    "inputs": lambda value: isinstance(value, Tensor) or (_tensors(value) and bool(value)),
    "labels": lambda value: isinstance(value, Tensor),
    "index": _tensor_or_none,
    "weight": _tensor_or_none,
    "mixed": lambda value: isinstance(value, bool),
    "labelled": lambda value: value is None or type(value) is int,
    "address": lambda value: (
        isinstance(value, dict)
        and value.keys() == {"seed", "epoch", "step"}
        and all(type(one) is int for one in value.values())
    ),
    "phase": lambda value: isinstance(value, str),
    "epochs": lambda value: type(value) is int and value > 0,
    "precision": lambda value: value in ("float32", "bfloat16"),
    "terms": lambda value: isinstance(value, dict) and all(isinstance(one, int | float) for one in value.values()),
    "total": lambda value: isinstance(value, int | float),
    "method": _tensors,
}


def replay(file: str | Path, console: Console | None = None) -> Finding:
    """Run the batch of a failure.pt again, in the state it met, and report where it fails.

    The networks are built from the recipe of the run that holds the file. On the CPU the numbers are exactly those of
    the run.

    Args:
        file: the failure.pt that the run's message named.
        console: where to print.

    Returns:
        Each edge's loss, and the first edge, and the first parameter, module or gradient, that is not finite.

    Raises:
        AttarError: the file is missing or damaged, or its run's recipe cannot build the method again.
    """
    path = Path(file).absolute()
    failure = read(path)
    training = training_of(path.parent)
    try:
        training.method.load_state_dict(failure["method"])
    except RuntimeError:
        raise AttarError(f"{file} is of another recipe than the run around it; put it back where it was") from None
    device = training.device
    training.method.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = Batch(
        failure["inputs"],
        failure["labels"],
        failure["index"],
        Address(**failure["address"]),
        failure["epochs"],
        failure["phase"],
        labelled=failure["labelled"],
        weight=failure["weight"],
        mixed=failure["mixed"],
    ).to(device)
    try:
        with threads(threads_of(path.parent, device)):
            finding = examine(training.method, batch, Runtime(device, failure["precision"], ""))
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        raise AttarError(f"the batch in {file} does not fit the run around it ({first_line(error)})") from None
    show(finding, failure, batch.address, console or default_console())
    return finding


def read(path: Path) -> dict[str, Any]:
    """What a failing run saved.

    Raises:
        AttarError: the file is missing, damaged or something else.
    """
    if not path.is_file():
        raise AttarError(f"{path} does not exist; give the failure.pt that the run's message named")
    try:
        held = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged file fails in many ways
        raise AttarError(f"{path} is damaged ({type(error).__name__}); {AGAIN}") from None
    if not isinstance(held, dict) or held.keys() != KEYS.keys():
        raise AttarError(f"{path} is no failure.pt of this version of attar; {AGAIN}")
    for key, holds in KEYS.items():
        if not holds(held[key]):
            raise AttarError(f"{path} is damaged (its {key} is {type(held[key]).__name__}); {AGAIN}")
    return held


def training_of(folder: Path) -> Training:
    """The training that works in a folder, built anew from the recipe of the run it belongs to.

    Raises:
        AttarError: no run is there, or it was made of objects that its folder cannot build.
    """
    root = run_around(folder)
    with naming_imports(root):
        recipe = read_recipe(root / "recipe.yaml")
        refuse_given(recipe)
        job = Job(recipe, root, Console(quiet=True))
    for place, build in trainings(job):
        if place == folder:
            training = build()
            smooth_labels(training.method, training.recipe.optim.label_smoothing)
            weigh_labels(training.method, training.splits.train.class_weights)
            return training
    raise AttarError(f"{folder} is no training of the run in {root}; put failure.pt back where it was")


def run_around(folder: Path) -> Path:
    """The folder of the run that a training's folder belongs to.

    Raises:
        AttarError: there is none.
    """
    root = next((place for place in (folder, *folder.parents) if (place / "recipe.yaml").is_file()), None)
    if root is None:
        raise AttarError(f"{folder} belongs to no run (no recipe.yaml); put failure.pt back into its run's folder")
    return root


def threads_of(folder: Path, device: torch.device) -> int:
    """The number of threads that a training computed with, as its run has recorded it."""
    recorded, _ = read_runtime(run_around(folder), device)
    of_teacher = folder.name.startswith("teacher")
    count = recorded and (recorded.teacher_threads if of_teacher else recorded.threads)
    return count or torch.get_num_threads()


def trainings(job: Job) -> Iterator[tuple[Path, Callable[[], Training]]]:
    """Every training of a job: its folder, and what builds it."""
    for training in job.teacher_trainings.values():
        yield training.folder, lambda training=training: training  # type: ignore[misc]
    for seed in job.seeds:
        yield job.seed_folder(seed) / "alone", lambda seed=seed: job.training(seed, alone=True)  # type: ignore[misc]
        yield job.seed_folder(seed), lambda seed=seed: taught(job, seed)  # type: ignore[misc]


def taught(job: Job, seed: int) -> Training:
    """The main training of a seed, with the teachers that the job trained first."""
    for number in list(job.teacher_trainings):
        job.teach(number, job._runtime())
    return job.training(seed)


def show(finding: Finding, failure: dict[str, Any], address: Address, console: Console) -> None:
    """Each edge's loss, and where the first bad number is."""
    rows = [
        [key, f"{value:.6g}", f"{failure['terms'].get(key, float('nan')):.6g}"] for key, value in finding.terms.items()
    ]
    rows.append(["the weighted sum", f"{finding.total:.6g}", f"{failure['total']:.6g}"])
    title = f"Epoch {address.epoch + 1}, step {address.step}, seed {address.seed}"
    console.print(Table(title, ["edge", "now", "in the run"], rows))
    if not finding.bad:
        console.print("Every number is finite this time: the failure does not follow from the batch and the state.")
        return
    console.print(f"First edge that is not finite: {finding.edge}", markup=False, soft_wrap=True)
    console.print(f"First place: {finding.place or 'the loss itself'}", markup=False, soft_wrap=True)
