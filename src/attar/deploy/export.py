"""From a student to files, each compared with it, scored and timed before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.data import ImageSet, eval_batches
from attar.deploy.formats.executorch import open_pte, to_pte
from attar.deploy.formats.pt2 import open_pt2, to_pt2
from attar.deploy.package import load, save
from attar.deploy.parity import Parity, all_logits, check, compare
from attar.errors import AttarError, unknown
from attar.extras import require
from attar.files import write_atomically
from attar.models.graphs.onnx import OPSET, described, open_onnx, to_onnx
from attar.models.graphs.quantise import quantised
from attar.models.graphs.traced import Deployed, facts
from attar.profiling import Latency, latency, threads

BATCH = 32


@dataclass(frozen=True)
class Student:
    """A student and the images it is checked on.

    Attributes:
        net: on the CPU, in eval mode.
        card: the JSON beside its weights; classes, image_shape, mean, std and data are needed.
        test: what every file is scored on.
        calibration: training images that the 8-bit scales are read off.
        bake: whether the graph formats take uint8 pixels and normalise them inside.
    """

    net: nn.Module
    card: dict[str, Any]
    test: ImageSet
    calibration: ImageSet
    bake: bool = False

    @cached_property
    def deployed(self) -> Deployed:
        """The network as it stands in the graph formats."""
        return Deployed(self.net, self.card["mean"], self.card["std"], self.bake).eval()

    @cached_property
    def logits(self) -> Tensor:
        """What the student in memory says about every test image."""
        plain = Deployed(self.net, self.card["mean"], self.card["std"], bake=False).eval()
        return all_logits(plain, self.test, plain.inputs)

    @cached_property
    def onnx(self) -> Any:
        """The float model in memory: two formats start from it."""
        return to_onnx(self.deployed, self.example)

    @property
    def example(self) -> Tensor:
        """Two images as the graph formats take them."""
        twice = self.test.subset(torch.tensor([0, 0]))
        return self.deployed.inputs(next(iter(eval_batches(twice, 2))).inputs)

    @property
    def facts(self) -> dict[str, str]:
        return facts(self.card, self.bake, min(self.test.stored_size))


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        file: its name in the folder.
        write: (student, path) puts it there.
        read: (path) gives it back as something that is called like a network.
        exact: whether it must compute what the student computes; otherwise the difference is only reported.
        graph: whether it holds the computation too, with the normalisation where that is baked.
        needs: packages of the extra.
        extra: what installs them.
        default: whether it is made when no format is named.
    """

    file: str
    write: Callable[[Student, Path], object]
    read: Callable[[Path], nn.Module]
    exact: bool = True
    graph: bool = True
    needs: tuple[str, ...] = ()
    extra: str = "export"
    default: bool = True


def _write_weights(student: Student, path: Path) -> None:
    save(student.net, path, **{key: value for key, value in student.card.items() if key not in ("attar", "spec")})


def _write_pt2(student: Student, path: Path) -> None:
    _write_bytes(path, to_pt2(student.deployed, student.example, student.facts))


def _write_onnx(student: Student, path: Path) -> None:
    _write_bytes(path, described(student.onnx, {**student.facts, "opset": str(OPSET)}))


def _write_int8(student: Student, path: Path) -> None:
    said = f"int8, static, per channel, calibrated with {len(student.calibration)} training images"
    model = quantised(student.onnx, student.deployed, student.calibration)
    _write_bytes(path, described(model, {**student.facts, "opset": str(OPSET), "quantisation": said}))


def _write_pte(student: Student, path: Path) -> None:
    _write_bytes(path, to_pte(student.deployed, student.example, student.facts))


def _write_bytes(path: Path, content: bytes) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


ONNX = ("onnx", "onnxscript", "onnxruntime")
FORMATS = {
    "safetensors": Format("student.safetensors", _write_weights, load, graph=False),
    "pt2": Format("student.pt2", _write_pt2, open_pt2),
    "onnx": Format("student.onnx", _write_onnx, open_onnx, needs=ONNX),
    "onnx-int8": Format("student.int8.onnx", _write_int8, open_onnx, exact=False, needs=ONNX),
    "executorch": Format("student.pte", _write_pte, open_pte, needs=("executorch",), extra="executorch", default=False),
}


@dataclass(frozen=True)
class Exported:
    """One file, and what was measured with it.

    Attributes:
        format: which of the formats.
        file: its name.
        bytes: its size.
        parity: its logits beside the student's, and its accuracy.
        latency: milliseconds of one image, on one thread.
        batch_latency: milliseconds of 32 images, on one thread; executorch takes them one after the other.
        calibrated: how many images set the 8-bit scales; None where there are none.
    """

    format: str
    file: str
    bytes: int
    parity: Parity
    latency: Latency
    batch_latency: Latency
    calibrated: int | None = None

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
        failures: per format that did not, one line that says why.
        count: test images that every file was compared on.
        data: the name of their set.
        baked: whether the graph formats normalise inside.
    """

    folder: Path
    files: list[Exported]
    failures: dict[str, str] = field(default_factory=dict)
    count: int = 0
    data: str = ""
    baked: bool = False

    def to_json(self) -> dict[str, Any]:
        """Everything above as plain data."""
        return {
            "data": self.data,
            "images": self.count,
            "threads": 1,
            "normalisation_inside": self.baked,
            "files": [file.to_json() for file in self.files],
            "failures": self.failures,
        }


def check_formats(formats: Sequence[str]) -> list[str]:
    """The formats asked for, in our order and once each; none means all but executorch.

    Raises:
        AttarError: one is unknown.

    >>> check_formats(["onnx", "pt2", "onnx"])
    ['pt2', 'onnx']
    >>> check_formats([])
    ['safetensors', 'pt2', 'onnx', 'onnx-int8']
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    return [name for name, kind in FORMATS.items() if (name in formats if formats else kind.default)]


def export_student(
    student: Student, folder: Path, formats: Sequence[str] = (), progress: Callable[[str], object] | None = None
) -> Export:
    """Write a student in several formats; each file is read again, compared with the student, scored and timed.

    A format that fails leaves no file, and the others are still written.

    Args:
        student: the network, its card and its images.
        folder: where the files go.
        formats: of `FORMATS`; none means all that are made by default.
        progress: called with the name of each format before it is written.

    Raises:
        AttarError: a format is unknown.
    """
    files, failures = [], {}
    for name in check_formats(formats):
        if progress:
            progress(name)
        try:
            files.append(_export(student, folder, name))
        except AttarError as error:
            failures[name] = str(error)
            (folder / FORMATS[name].file).unlink(missing_ok=True)
    return Export(folder, files, failures, len(student.test), student.test.name, student.bake)


def _export(student: Student, folder: Path, name: str) -> Exported:
    kind = FORMATS[name]
    for package in kind.needs:
        require(package, name, kind.extra)
    path = folder / kind.file
    kind.write(student, path)
    net = kind.read(path)
    # Weights alone have no normalisation inside.
    prepare = student.deployed.inputs if kind.graph else lambda images: images
    with threads(1):
        parity = compare(all_logits(net, student.test, prepare), student.logits, student.test.labels)
        if kind.exact:
            check(name, parity)
        shape, dtype = student.test.image_shape, torch.uint8 if kind.graph and student.bake else torch.float32
        one, many = (latency(net, shape, batch, dtype=dtype) for batch in (1, BATCH))
    calibrated = None if kind.exact else len(student.calibration)
    return Exported(name, kind.file, path.stat().st_size, parity, one, many, calibrated)
