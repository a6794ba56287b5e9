"""The pt2 format: the network as a graph that plain torch runs, without our code."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from attar.deploy.formats.registry import register_format
from attar.errors import AttarError
from attar.extras import quiet
from attar.files import write_bytes

if TYPE_CHECKING:
    from torch import nn

    from attar.batch import Inputs
    from attar.deploy.student import Student
    from attar.models.graphs.traced import Traced

META = "attar.json"
# Where the network's code lies is nobody's business but ours.
PRIVATE = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node")


def to_pt2(net: Traced, example: Inputs, facts: dict[str, str]) -> bytes:
    """The file's bytes, for any batch size and length of sequences.

    Args:
        net: in eval mode.
        example: two samples as the network takes them.
        facts: stored beside the graph as attar.json.

    Raises:
        AttarError: the network cannot be traced.
    """
    import torch

    from attar.models.graphs.traced import arguments, axes, untraceable

    try:
        with quiet():
            open_sizes = getattr(net.net, "open_sizes", None)
            program = torch.export.export(net, arguments(example), dynamic_shapes=axes(example, open_sizes))
    except Exception as error:  # the tracer raises dozens of types
        raise untraceable("pt2", error) from error
    for node in program.graph.nodes:
        for key in PRIVATE:
            node.meta.pop(key, None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={META: json.dumps(facts)})
    return buffer.getvalue()


def open_pt2(path: Path) -> nn.Module:
    """The network of a file that `to_pt2` wrote."""
    import torch

    from attar.models.graphs.traced import Loaded

    held = {META: ""}
    module = torch.export.load(path, extra_files=held).module()
    return Loaded(lambda *tensors: module(*tensors), json.loads(json.loads(held[META]).get("inputs", "[]")))


def read_facts(path: Path) -> dict[str, str]:
    """The metadata of a file.

    Raises:
        AttarError: it is damaged, or `attar export` did not write it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith(f"extra/{META}"))
            held = json.loads(archive.read(name))
    except (OSError, zipfile.BadZipFile, StopIteration, ValueError):
        raise AttarError(f"{path} has no {META} inside; it was not written by `attar export`, or is damaged") from None
    return {key: value for key, value in held.items() if isinstance(value, str)} if isinstance(held, dict) else {}


def write(student: Student, path: Path) -> None:
    """The graph, with facts about it."""
    write_bytes(path, to_pt2(student.deployed, student.example, student.facts))


register_format(
    "pt2",
    suffix=".pt2",
    title="a graph that torch runs without attar",
    write=write,
    open=open_pt2,
    default=True,
    facts=read_facts,
    loading='import torch\n\nnet = torch.export.load("student.pt2").module()  # without attar',
)
