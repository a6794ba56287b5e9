"""The coreml format: an ML program for Apple's devices. Only its structure is checked: Core ML runs on macOS alone."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from attar.deploy.formats.registry import register_format
from attar.errors import AttarError, first_line
from attar.extras import quiet, require

if TYPE_CHECKING:
    from attar.deploy.student import Student

INPUT, OUTPUT = "images", "logits"


def write(student: Student, path: Path) -> None:
    """A .mlpackage of one image a call in float32, with facts about it as user-defined metadata.

    Raises:
        AttarError: the network uses an operator that Core ML does not have.
    """
    import torch

    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        tools = require("coremltools", "coreml", "coreml")
    net, example = student.of_images
    shutil.rmtree(path, ignore_errors=True)
    try:
        with quiet(), contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            program = torch.export.export(net, (example[:1],)).run_decompositions({})
            model = tools.convert(
                program,
                inputs=[tools.TensorType(name=INPUT, shape=tuple(example[:1].shape))],
                outputs=[tools.TensorType(name=OUTPUT)],
                convert_to="mlprogram",
                compute_precision=tools.precision.FLOAT32,
                skip_model_load=True,
            )
            for key, value in student.facts.items():
                model.user_defined_metadata[f"attar.{key}"] = value
            model.save(str(path))
    except Exception as error:  # the converter raises dozens of types
        remedy = "--bake" if example.dtype == torch.uint8 else "coreml"
        raise AttarError(f"coreml cannot hold this network ({first_line(error)}); leave {remedy} out") from error


def check_structure(student: Student, path: Path) -> None:
    """The package is read again: its input is one of the student's images, its output as wide as the student's.

    Raises:
        AttarError: it is not.
    """
    tools = require("coremltools", "coreml", "coreml")
    with quiet():
        described = tools.utils.load_spec(str(path)).description
    given, found = described.input[0], described.output[0]
    shape = [1, *student.of_images[1].shape[1:]]
    if (given.name, found.name) != (INPUT, OUTPUT) or list(given.type.multiArrayType.shape) != shape:
        raise AttarError(
            f"coreml wrote {given.name} {list(given.type.multiArrayType.shape)} -> {found.name}, expected {INPUT} "
            f"{shape} -> {OUTPUT}; leave coreml out"
        )


register_format(
    "coreml",
    suffix=".mlpackage",
    title="for Apple's devices: Core ML, float32; structure checked only",
    write=write,
    check=check_structure,
    packages=("coremltools",),
    extra="coreml",
    images=True,
    tag="coreml",
    loading='import coremltools\n\nnet = coremltools.models.MLModel("student.mlpackage")  # predicts on macOS\n'
    'logits = net.predict({"images": image})["logits"]',
    note="coreml was read again and its inputs and outputs compared; it runs on Apple's systems alone, so no number of "
    "it is known here.",
)
