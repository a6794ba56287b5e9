"""The ONNX format: from a network to bytes, and from a file to something that is called like a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.extras import quiet, require
from attar.models.graphs.traced import INPUT, OUTPUT, Loaded, Traced, arguments, axes, untraceable

# The exporter's own operator set: newer ones only add operators that image classifiers do not need.
OPSET = 18


def to_onnx(net: Traced, example: Inputs) -> Any:
    """The network as an onnx.ModelProto, for any batch size and length of sequences, in float32.

    Args:
        net: in eval mode.
        example: two samples as the network takes them.

    Raises:
        AttarError: the network uses an operator that ONNX does not have.
    """
    try:
        with quiet():
            program = torch.onnx.export(
                net,
                arguments(example),
                dynamo=True,
                opset_version=OPSET,
                input_names=[*example] if isinstance(example, dict) else [INPUT],
                output_names=getattr(net, "outputs", [OUTPUT]),
                dynamic_shapes=axes(example, getattr(net.net, "open_sizes", None)),
                verbose=False,
            )
            model = program.model_proto  # type: ignore[union-attr]
    except Exception as error:  # the tracer raises dozens of types
        raise untraceable("onnx", error) from error
    _strip(model)
    return model


def described(model: Any, facts: dict[str, str]) -> bytes:
    """A model's bytes, with facts about it in its metadata."""
    del model.metadata_props[:]
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def open_onnx(path: Path) -> nn.Module:
    """An ONNX file as a network, run by onnxruntime on one thread of the CPU.

    Raises:
        AttarError: onnxruntime is missing.
    """
    ort = require("onnxruntime", "onnx", "export")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(*tensors: Tensor) -> Tensor:
        given = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        return torch.from_numpy(session.run([OUTPUT], given)[0])

    return Loaded(run, () if names == [INPUT] else names)


def _strip(model: Any) -> None:
    """Without the exporter's notes, which hold paths of the machine that exported."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        del part.metadata_props[:]
