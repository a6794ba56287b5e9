"""The onnx format: the network as a graph for onnxruntime and other runtimes, in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attar.deploy.classifier import Classifier, checked_shape
from attar.deploy.formats.registry import register_format
from attar.errors import AttarError
from attar.extras import require
from attar.files import write_bytes

if TYPE_CHECKING:
    from torch import nn

    from attar.deploy.student import Student

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
NEEDED = ("classes", "image_size", "read_size", "mean", "std")


def float_model(student: Student) -> Any:
    """The onnx.ModelProto in float32."""
    from attar.models.graphs.onnx import to_onnx

    return to_onnx(student.deployed, student.example)


def write(student: Student, path: Path) -> None:
    """The float model, with facts about it in its metadata."""
    from attar.models.graphs.onnx import OPSET, described

    write_bytes(path, described(student.once(float_model), {**student.facts, "opset": str(OPSET)}))


def open_file(path: Path) -> nn.Module:
    """The file as a network, run by onnxruntime on one thread of the CPU."""
    from attar.models.graphs.onnx import open_onnx

    return open_onnx(path)


def read_facts(path: Path) -> dict[str, str]:
    """The metadata of a file.

    Raises:
        AttarError: onnxruntime cannot read it.
    """
    return dict(_session(path).get_modelmeta().custom_metadata_map)


def _session(path: Path) -> Any:
    ort = require("onnxruntime", path.name, "export")
    if not path.is_file():
        raise AttarError(f"{path} does not exist; `attar export RUN onnx` writes one")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime has a type for every reason
        raise AttarError(f"onnxruntime cannot read {path}; export the run again") from None


def open_classifier(path: Path) -> Classifier:
    """The file as a classifier, with onnxruntime and without torch.

    Raises:
        AttarError: it is missing or damaged, `attar export` did not write it, or onnxruntime is not installed.
    """
    session = _session(path)
    facts = session.get_modelmeta().custom_metadata_map
    if missing := [key for key in NEEDED if key not in facts]:
        raise AttarError(
            f"{path} has no {missing[0]} in its metadata: it is no classifier of images that `attar export` wrote; of "
            "other tasks give the run's folder"
        )
    (node,) = session.get_inputs()
    baked = node.type == "tensor(uint8)"
    try:
        classes, (height, width), read, mean, std = (json.loads(facts[key]) for key in NEEDED)
        shape = checked_shape((len(mean), height, width), path)
        read = read if isinstance(read, int) else tuple(read)
    except (ValueError, TypeError) as error:
        if isinstance(error, AttarError):
            raise
        raise AttarError(f"{path} has damaged metadata; export the run again") from None
    return Classifier(
        tuple(classes),
        shape,
        read,
        None if baked else tuple(mean),
        None if baked else tuple(std),
        lambda images: session.run(None, {node.name: images})[0],
        "multilabel" in facts,
    )


register_format(
    "onnx",
    suffix=".onnx",
    title="a graph for onnxruntime and others, float32",
    write=write,
    open=open_file,
    packages=PACKAGES,
    extra="export",
    default=True,
    classifier=open_classifier,
    facts=read_facts,
    tag="onnx",
    loading='import onnxruntime\n\nsession = onnxruntime.InferenceSession("student.onnx")  # without torch\n'
    '(logits,) = session.run(["logits"], {"images": images})',
)
