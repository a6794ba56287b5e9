"""Damaged run folders: one file of a run is damaged, and a command that reads the folder works or ends in one line."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from attar import cli
from damage import damage, damages_of

# For each trial of the soak.
KINDS = 420
# A command that takes longer hangs.
SECONDS = 120
CELL_FILES = ("recipe.yaml", "results.json", "cell.json")
CELL, WEIGHTS = "bench/resnet14_-_resnet8/kd/seed0", "student.safetensors"
RECIPE = [
    *("teacher=resnet14", "teacher.epochs=1", "student=resnet8", "data=digits", "data.train_size=60", "epochs=1"),
    *("batch_size=16", "precision=float32", "teacher.precision=float32", "method=kd"),
]
SUITE = {
    "methods": ["kd"],
    "pairs": [{"teacher": {"name": "resnet14", "epochs": 1, "precision": "float32"}, "student": "resnet8"}],
    "recipe": {"data": {"name": "digits", "train_size": 60}, "epochs": 1, "batch_size": 16, "precision": "float32"},
}


@dataclass(frozen=True)
class Reader:
    """A command that reads a run's folder.

    Attributes:
        arguments: of the command, from the place where `make` wrote.
        part: the folder in that place whose files are damaged.
        files: those that the command reads.
    """

    arguments: Callable[[Path], list[str]]
    part: str
    files: tuple[str, ...]


def reader(command: str, part: str, files: str) -> Reader:
    """A reader; {at} in its command is the place, and the files have spaces between them."""
    return Reader(lambda at: [word.format(at=at) for word in command.split()], part, tuple(files.split()))


STUDENT = f"student.json {WEIGHTS}"
REPORT = (
    "recipe.yaml results.json student.json environment.json graph.svg pictures.npz metrics.jsonl alone/metrics.jsonl "
    "predictions.npz alone/predictions.npz teacher/predictions.npz"
)
RESUME = (
    "recipe.yaml inputs.json environment.json checkpoint.pt metrics.jsonl alone/metrics.jsonl alone/scores.json "
    "teacher/scores.json teacher/metrics.jsonl teacher/student.json teacher/student.safetensors teacher/predictions.npz"
)
READERS = {
    "report": reader("report {at}/run", "run", REPORT),
    "report, two seeds": reader(
        "report {at}/two",
        "two",
        "results.json seed0/metrics.jsonl seed1/metrics.jsonl seed0/predictions.npz",
    ),
    "compare": reader(
        f"compare {{at}}/run {{at}}/{CELL} out={{at}}/c.html",
        "run",
        "recipe.yaml results.json predictions.npz",
    ),
    "evaluate": reader("evaluate {at}/run --teacher {at}/run/teacher", "run", f"recipe.yaml {STUDENT}"),
    "export": reader("export {at}/run safetensors out={at}/export", "run", f"recipe.yaml results.json {STUDENT}"),
    "predict": reader("predict {at}/run {at}/image.png", "run", STUDENT),
    "predict, ONNX": reader("predict {at}/run/export {at}/image.png", "run/export", "student.onnx"),
    "profile": reader("profile {at}/run --batch 1", "run", STUDENT),
    "resume": reader("resume {at}/broken", "broken", RESUME),
    "resume, finished": reader(
        "resume {at}/run", "run", "recipe.yaml results.json scores.json alone/scores.json metrics.jsonl"
    ),
    "replay": reader("replay {at}/failed/failure.pt", "failed", "failure.pt recipe.yaml"),
    "bench": reader(
        "bench {at}/suite.yaml out={at}/bench",
        "bench",
        "choices.json cells.json " + " ".join(f"{CELL.partition('/')[2]}/{name}" for name in CELL_FILES),
    ),
    "distill, alone=RUN": reader(
        f"distill {' '.join(RECIPE)} alone={{at}}/run out={{at}}/new",
        "run/alone",
        "scores.json student.json metrics.jsonl",
    ),
    "distill, teacher.weights=FILE": reader(
        f"distill {' '.join(RECIPE)} teacher.weights={{at}}/run/teacher/{WEIGHTS} alone=skip out={{at}}/new",
        "run/teacher",
        STUDENT,
    ),
}


@dataclass(frozen=True)
class Kind:
    """One trial: a command, the file that is damaged before it, how, and the number that seeds the damage."""

    command: str
    file: str
    damage: str
    number: int


def rows(trials: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """A row a command: what came of its trials."""
    whole = make(scratch / "whole")
    found: dict[str, Counter[str]] = {name: Counter() for name in READERS}
    for kind in chosen(trials * KINDS, seed):
        outcome, text = outcome_of(kind, whole, scratch / "trial")
        found[kind.command][outcome] += 1
        if outcome == "wrong":
            print(f"{kind}: {text}", file=sys.stderr, flush=True)
    return [row(name, counts) for name, counts in found.items()]


def row(command: str, counts: Counter[str]) -> dict[str, Any]:
    """The counts of one command."""
    numbers = {outcome: counts[outcome] for outcome in ("refused", "not needed", "wrong")}
    return {"command": command, "tried": counts.total(), **numbers, "passed": not counts["wrong"]}


def make_run(at: Path) -> Path:
    """A place with a finished run and an image."""
    at.mkdir(parents=True)
    run(["distill", *RECIPE, f"out={at / 'run'}"], 0)
    Image.new("L", (8, 8), 90).save(at / "image.png")
    return at


def make(at: Path) -> Path:
    """The same, with an export, an interrupted run, one that met a non-finite value, one of two seeds and a suite."""
    make_run(at)
    run(["export", str(at / "run"), "safetensors", "onnx"], 0)
    trained = [*RECIPE, f"teacher.weights={at / 'run' / 'teacher' / WEIGHTS}", "alone=skip"]
    run(["distill", *trained, "optim.lr=1e30", f"out={at / 'failed'}"], 2)
    run(["distill", *trained, "seeds=2", f"out={at / 'two'}"], 0)
    (at / "suite.yaml").write_text(yaml.safe_dump(SUITE), encoding="utf-8")
    run(["bench", str(at / "suite.yaml"), f"out={at / 'bench'}"], 0)
    shutil.copytree(at / "run", at / "broken", ignore=shutil.ignore_patterns("report.html", "results.json"))
    (at / "broken" / "scores.json").unlink()
    return at


def chosen(count: int, seed: int) -> list[Kind]:
    """So many kinds, the commands in turn."""
    draw, names, kinds = random.Random(seed), list(READERS), []
    for number in range(count):
        command = names[number % len(names)]
        file = draw.choice(READERS[command].files)
        kinds.append(Kind(command, file, draw.choice(damages_of(file)), draw.randrange(2**32)))
    return kinds


def outcome_of(kind: Kind, whole: Path, at: Path) -> tuple[str, str]:
    """Damage one file in a copy of the whole place and run the command: refused, not needed (it works) or wrong."""
    shutil.rmtree(at, ignore_errors=True)
    shutil.copytree(whole, at)
    how = READERS[kind.command]
    damage(at / how.part / kind.file, kind.damage, random.Random(kind.number))
    status, text = called(how.arguments(at))
    if status == 0:
        return "not needed", text
    lines = [line for line in text.splitlines() if line.startswith("attar: ")]
    return ("refused" if status == 2 and lines and "Traceback" not in text else "wrong"), text


def run(arguments: list[str], expected: int) -> None:
    """A command that must end with this status."""
    status, text = called(arguments)
    if status != expected:
        raise RuntimeError(f"{arguments}: status {status}\n{text}")


def called(arguments: list[str]) -> tuple[int, str]:
    """The status of a command in this process, 1 with its traceback; and what it printed."""
    before, printed = sys.argv, io.StringIO()
    sys.argv = ["attar", *arguments]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), alarm(), quiet():
        try:
            cli.main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        except Exception:
            status = 1
            traceback.print_exc(file=printed)
        finally:
            sys.argv = before
    return status, printed.getvalue()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Warnings stay warnings, whatever the caller makes of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def alarm() -> Iterator[None]:
    """A command that hangs raises."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"it did not end in {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
