"""The onnx-int8 format: ONNX with 8-bit weights and activations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attar.deploy.formats.onnx import PACKAGES, float_model, open_classifier, open_file, read_facts
from attar.deploy.formats.registry import register_format
from attar.files import write_bytes

if TYPE_CHECKING:
    from attar.deploy.student import Student


def write(student: Student, path: Path) -> None:
    """The quantised model; its scales are read off the student's calibration images."""
    from attar.deploy.int8_budget import fitted
    from attar.models.graphs.onnx import OPSET, described
    from attar.models.graphs.quantise import quantised

    how = f"int8, static, per channel, calibrated with {len(student.calibration)} training images"
    if student.within is None:
        model = quantised(student.once(float_model), student.of_images[0], student.calibration)
    else:
        model, way = fitted(student, float_model)
        how = f"{how}, {way}"
    write_bytes(path, described(model, {**student.facts, "opset": str(OPSET), "quantisation": how}))


register_format(
    "onnx-int8",
    suffix=".int8.onnx",
    title="the same in 8 bits, calibrated on training images",
    write=write,
    open=open_file,
    exact=False,
    calibrated=True,
    packages=PACKAGES,
    extra="export",
    default=True,
    images=True,
    classifier=open_classifier,
    facts=read_facts,
    tag="onnx",
)
