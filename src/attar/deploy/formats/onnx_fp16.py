"""The onnx-fp16 format: ONNX with weights and sums in half precision; inputs and outputs stay float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attar.deploy.formats.onnx import PACKAGES, float_model, open_classifier, open_file, read_facts
from attar.deploy.formats.registry import register_format
from attar.errors import AttarError, first_line
from attar.extras import quiet, require
from attar.files import write_bytes

if TYPE_CHECKING:
    from attar.deploy.student import Student

# Of the largest logit: half precision keeps 11 bits of each number, and sums lose some of them.
HALF = 0.02


def write(student: Student, path: Path) -> None:
    """The float model with its tensors in float16."""
    from attar.models.graphs.onnx import OPSET, described

    onnx = require("onnx", "onnx-fp16", "export")
    float16 = require("onnxruntime.transformers.float16", "onnx-fp16", "export")
    model = onnx.ModelProto()
    model.CopyFrom(student.once(float_model))
    try:
        with quiet():
            model = float16.convert_float_to_float16(model, keep_io_types=True)
    except Exception as error:  # the converter raises plain exceptions of many types
        raise AttarError(f"onnx-fp16 cannot hold this network ({first_line(error)}); leave onnx-fp16 out") from error
    write_bytes(path, described(model, {**student.facts, "opset": str(OPSET)}))


register_format(
    "onnx-fp16",
    suffix=".fp16.onnx",
    title="the same in half precision, for GPUs and phones",
    write=write,
    open=open_file,
    tolerance=HALF,
    packages=PACKAGES,
    extra="export",
    classifier=open_classifier,
    facts=read_facts,
    tag="onnx",
)
