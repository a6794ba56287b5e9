"""The litert format: a .tflite file for LiteRT (TensorFlow Lite before), in float32, one image a call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attar.deploy.formats.registry import register_format
from attar.errors import AttarError, first_line
from attar.extras import quiet, require

if TYPE_CHECKING:
    import torch
    from torch import nn

    from attar.deploy.student import Student


def write(student: Student, path: Path) -> None:
    """The network as LiteRT's converter for torch writes it; the file holds no facts about its classes.

    Raises:
        AttarError: the network uses an operator that LiteRT does not have.
    """
    converter = require("litert_torch", "litert", "litert")
    net, example = student.of_images
    try:
        with quiet():
            converter.convert(net, (example[:1],)).export(str(path))
    except Exception as error:  # the converter raises dozens of types
        raise AttarError(f"litert cannot hold this network ({first_line(error)}); leave litert out") from error


def open_file(path: Path) -> nn.Module:
    """The file as a network, run by LiteRT on one thread; a batch is image after image."""
    import torch

    from attar.models.graphs.traced import Loaded

    with quiet():
        interpreter = require("ai_edge_litert.interpreter", "litert", "litert").Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
    given, found = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def one(image: torch.Tensor) -> torch.Tensor:
        interpreter.set_tensor(given, image.contiguous().numpy())
        interpreter.invoke()
        return torch.from_numpy(interpreter.get_tensor(found))

    return Loaded(lambda images: torch.cat([one(image) for image in images.split(1)]))


register_format(
    "litert",
    suffix=".tflite",
    title="for phones and boards: LiteRT, float32, one image a call",
    write=write,
    open=open_file,
    packages=("litert_torch", "ai_edge_litert"),
    extra="litert",
    images=True,
    tag="tflite",
    loading="from ai_edge_litert.interpreter import Interpreter\n\n"
    'net = Interpreter("student.tflite")  # one image a call\nnet.allocate_tensors()',
    note="litert takes the images of a batch one after the other.",
)
