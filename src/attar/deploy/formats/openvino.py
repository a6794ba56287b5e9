"""The openvino format: OpenVINO's intermediate representation, a graph (.xml) and its weights (.bin), in float32."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from attar.deploy.formats.onnx import PACKAGES, float_model
from attar.deploy.formats.registry import register_format
from attar.errors import AttarError, first_line
from attar.extras import openvino_core, quiet, require

if TYPE_CHECKING:
    from torch import nn

    from attar.deploy.student import Student

# Where the facts lie in the graph's file.
SECTION = "attar"


def write(student: Student, path: Path) -> None:
    """The float ONNX model, converted, with facts about it in the .xml."""
    openvino = require("openvino", "openvino", "speed")
    with TemporaryDirectory() as folder, quiet():
        whole = Path(folder) / "whole.onnx"
        whole.write_bytes(student.once(float_model).SerializeToString())
        try:
            model = openvino.convert_model(str(whole))
            for key, value in student.facts.items():
                model.set_rt_info(value, [SECTION, key])
            openvino.save_model(model, str(path), compress_to_fp16=False)
        except Exception as error:  # OpenVINO raises plain RuntimeErrors with the C++ place in them
            raise AttarError(f"openvino cannot hold this network ({first_line(error)}); leave openvino out") from error


def open_file(path: Path) -> nn.Module:
    """The file as a network, run by OpenVINO in float32 on one thread of the CPU."""
    import torch

    from attar.models.graphs.traced import Loaded

    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    # Pinned, the runs of several processes would share the first core.
    compiled = _read(path, {**settings, "ENABLE_CPU_PINNING": False})
    request = compiled.create_infer_request()

    def run(*tensors: torch.Tensor) -> torch.Tensor:
        found = request.infer([tensor.contiguous().numpy() for tensor in tensors])
        # The request writes every output into the same memory.
        return torch.from_numpy(found[0].copy())

    names = [node.get_any_name() for node in compiled.inputs]
    return Loaded(run, names if len(names) > 1 else ())


def _read(path: Path, settings: dict[str, Any]) -> Any:
    core = openvino_core("openvino")
    try:
        return core.compile_model(str(path), "CPU", settings)
    except RuntimeError:
        raise AttarError(f"OpenVINO cannot read {path} with its .bin; export the run again") from None


def read_facts(path: Path) -> dict[str, str]:
    """The facts in a graph's file.

    Raises:
        AttarError: it is damaged, or `attar export` did not write it.
    """
    core = openvino_core("openvino")
    try:
        held = core.read_model(str(path)).get_rt_info([SECTION])
        return {key: str(value) for key, value in held.value.items()}
    except RuntimeError:
        raise AttarError(f"{path} was not written by `attar export`, or its .bin is missing") from None


register_format(
    "openvino",
    suffix=".xml",
    beside=(".bin",),
    title="OpenVINO's representation, float32: Intel's CPUs and GPUs",
    write=write,
    open=open_file,
    packages=("openvino", *PACKAGES),
    extra="speed",
    facts=read_facts,
    tag="openvino",
    loading='import openvino\n\nnet = openvino.compile_model("student.xml")  # without torch; student.bin beside it\n'
    "logits = net(images)[0]",
)
