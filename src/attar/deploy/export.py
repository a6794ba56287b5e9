"""From a student to files, each compared with it, scored and timed before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from attar.data import ImageSet
from attar.deploy.formats import FORMATS, Format
from attar.deploy.parity import Parity, check, compare, measured
from attar.deploy.student import Student
from attar.errors import AttarError, first_line
from attar.extras import quiet, require
from attar.metrics import Scoring
from attar.models.fingerprint import fingerprint
from attar.profiling import Latency, latency, threads
from attar.records import damaged, read_json

BATCH = 32


@dataclass(frozen=True)
class Exported:
    """One file, and what was measured with it.

    Attributes:
        format: which of the formats.
        file: its name.
        bytes: its size.
        parity: its logits beside the student's, and its accuracy; None where no runtime here can run it.
        latency: milliseconds of one image, on one thread; None likewise.
        batch_latency: milliseconds of 32 images, on one thread; None where the test set is one sample (a graph), too.
        calibrated: how many images set the scales of a format that is not exact; None for the others.
        made: how eight bits within a budget were made; "" without a budget.
    """

    format: str
    file: str
    bytes: int
    parity: Parity | None
    latency: Latency | None
    batch_latency: Latency | None
    calibrated: int | None = None
    made: str = ""

    def to_json(self) -> dict[str, Any]:
        tree = asdict(self)
        names = {"latency": "latency_ms", "batch_latency": f"latency_{BATCH}_ms"}
        # A named tuple is a list in JSON otherwise.
        return {names.get(key, key): v._asdict() if isinstance(v, Latency) else v for key, v in tree.items()}


@dataclass(frozen=True)
class Export:
    """What came of an export.

    Attributes:
        folder: where the files are.
        files: those that passed.
        failures: by format, one line with the reason.
        count: test samples that every file was compared on.
        scoring: the measures of the task.
        data: the name of their set.
        baked: whether the graph formats normalise inside.
        temperature: what the graph formats divide logits by.
        within: how many points eight bits were allowed to lose; None: any.
        weights: the fingerprint of the student in memory; "" in records of older versions.
    """

    folder: Path
    files: list[Exported]
    scoring: Scoring
    failures: dict[str, str] = field(default_factory=dict)
    count: int = 0
    data: str = ""
    baked: bool = False
    temperature: float = 1.0
    within: float | None = None
    weights: str = ""

    def to_json(self) -> dict[str, Any]:
        """Everything above as plain data."""
        return {
            "data": self.data,
            self.scoring.samples: self.count,
            "score": self.scoring.primary.name,
            "scoring": self.scoring.to_json(),
            "threads": 1,
            "normalisation_inside": self.baked,
            "temperature": self.temperature,
            "within": self.within,
            "weights": self.weights,
            "files": [file.to_json() for file in self.files],
            "failures": self.failures,
        }


def read_export(folder: Path) -> Export | None:
    """What an earlier export came to, from export.json in its folder; None where there is none.

    Raises:
        AttarError: the file is damaged, or of a version that kept less.
    """
    file, remedy = folder / "export.json", "attar export writes it again"
    if not file.is_file():
        return None
    tree = read_json(file, remedy)
    try:
        scoring = Scoring.from_json(tree["scoring"])
        files = [_read_file(one) for one in tree["files"]]
        count, data, baked = int(tree[scoring.samples]), str(tree["data"]), bool(tree["normalisation_inside"])
        temperature, within = float(tree.get("temperature", 1)), tree.get("within")
        what = (count, data, baked, temperature, within, str(tree.get("weights", "")))
        return Export(folder, files, scoring, dict(tree["failures"]), *what)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(file, f"it lacks {error}", remedy) from None


def _read_file(tree: dict[str, Any]) -> Exported:
    """One file of an export, from what `Exported.to_json` wrote."""
    one, many = (tree[key] and Latency(**tree[key]) for key in ("latency_ms", f"latency_{BATCH}_ms"))
    parity = tree["parity"] and Parity(**tree["parity"])
    size, calibrated = int(tree["bytes"]), tree["calibrated"]
    made = str(tree.get("made", ""))
    return Exported(str(tree["format"]), str(tree["file"]), size, parity, one, many, calibrated, made)


def check_formats(formats: Sequence[str], images: bool = True) -> list[str]:
    """The formats asked for, in the registry's order and once each; none means all that are made by default.

    Args:
        formats: names.
        images: whether the student labels images.

    Raises:
        AttarError: one is unknown, or for images alone.

    >>> check_formats(["onnx", "int8", "pt2", "onnx"])
    ['pt2', 'onnx', 'onnx-int8']
    >>> check_formats([])
    ['safetensors', 'pt2', 'onnx', 'onnx-int8']
    """
    formats = [full_name(name) for name in formats]
    for name in formats:
        if FORMATS[name].images and not images:
            raise AttarError(f"{name} is for classified images; leave it out")
    fitting = [name for name in FORMATS if images or not FORMATS[name].images]
    return [name for name in fitting if (name in formats if formats else FORMATS[name].default)]


def full_name(name: str) -> str:
    """A format's name, of which the end is enough where no other ends so: int8 is onnx-int8.

    >>> full_name("int8"), full_name("onnx")
    ('onnx-int8', 'onnx')
    """
    ends = [one for one in FORMATS if one.endswith(f"-{name}")]
    return ends[0] if name not in FORMATS and len(ends) == 1 else name


def export_student(
    student: Student, folder: Path, formats: Sequence[str] = (), progress: Callable[[str], object] | None = None
) -> Export:
    """Write a student in several formats; each file is read again, compared with the student, scored and timed.

    A format that fails leaves no file, and the others are still written.

    Args:
        student: the network, its card and its images.
        folder: where the files go.
        formats: names of `list_formats()`; none means all that are made by default.
        progress: called with the name of each format before it is written.

    Raises:
        AttarError: a format is unknown.
    """
    files, failures = [], {}
    for name in check_formats(formats, isinstance(student.test, ImageSet)):
        if progress:
            progress(name)
        try:
            files.append(_export(student, folder, name))
        except AttarError as error:
            failures[name] = str(error)
            FORMATS[name].remove(folder)
    return replace(without_files(student, folder), files=files, failures=failures)


def without_files(student: Student, folder: Path) -> Export:
    """What is known of an export before anything is written."""
    what = (len(student.test), student.test.name, student.bake, student.temperature, student.within)
    return Export(folder, [], student.task.metrics().scoring, {}, *what, fingerprint(student.net))


def check_budget(name: str, student: Student, score: float) -> None:
    """Refuse an 8-bit file that loses more on the test set than is allowed, whatever validation images promised.

    Raises:
        AttarError: it does.
    """
    assert student.within is not None
    measure = student.task.metrics().primary
    lost = measure.scale * (student.score - score if measure.higher else score - student.score)
    if not lost <= student.within:
        raise AttarError(
            f"{name} was within {student.within:g} {measure.points} on the validation images, but loses {lost:.2f} on "
            "the test set; the file was not kept. Allow more, or give more validation images"
        )


def _export(student: Student, folder: Path, name: str) -> Exported:
    kind = FORMATS[name]
    with quiet():
        for package in kind.packages:
            require(package, name, kind.extra)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        kind.write(student, folder / kind.file)
        return _checked(student, folder, kind)
    except AttarError:
        raise
    except Exception as error:  # every runtime raises types of its own
        raise AttarError(f"{name} does not run this network ({first_line(error)}); leave {name} out") from error


def _checked(student: Student, folder: Path, kind: Format) -> Exported:
    """A file that was written, read again, compared with the student, scored and timed.

    Raises:
        AttarError: it is not what it should be.
    """
    name, path = kind.name, folder / kind.file
    if kind.open is None:
        assert kind.check is not None
        kind.check(student, path)
        return Exported(name, kind.file, kind.bytes(folder), None, None, None)
    net = kind.open(path)
    # Weights alone have no normalisation inside.
    prepare = student.prepared if kind.graph else lambda inputs: inputs
    with threads(1):
        outputs, score = measured(net, student.test, prepare, student.task.metrics())
        expected = student.outputs / student.temperature if kind.graph else student.outputs
        parity = compare(outputs, expected, score, student.task.output == "logits")
        if kind.exact:
            check(name, parity, kind.tolerance)
        if kind.calibrated and student.within is not None:
            check_budget(name, student, score)
        dtype = torch.uint8 if kind.graph and student.bake else torch.float32
        one = latency(net, student.test.example, 1, dtype=dtype)
        many = latency(net, student.test.example, BATCH, dtype=dtype) if len(student.test) > 1 else None
    calibrated = len(student.calibration) if kind.calibrated else None
    made = ""
    if kind.calibrated and student.within is not None and kind.facts is not None:
        made = kind.facts(path).get("quantisation", "").rpartition(", ")[2]
    return Exported(name, kind.file, kind.bytes(folder), parity, one, many, calibrated, made)
