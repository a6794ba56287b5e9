"""The safetensors format: weights, and beside them the JSON from which the network is rebuilt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attar.deploy.classifier import open_run
from attar.deploy.formats.registry import register_format

if TYPE_CHECKING:
    from torch import nn

    from attar.deploy.student import Student


def write(student: Student, path: Path) -> None:
    """The weights, and a JSON of the same name."""
    from attar.deploy.package import save

    save(student.net, path, **{key: value for key, value in student.card.items() if key not in ("attar", "spec")})


def open_weights(path: Path) -> nn.Module:
    """The network that the JSON describes, with the weights."""
    from attar.deploy.package import load

    return load(path)


register_format(
    "safetensors",
    suffix=".safetensors",
    title="weights, and a JSON that rebuilds the network",
    write=write,
    open=open_weights,
    graph=False,
    default=True,
    classifier=open_run,
    loading='import attar\n\nnet = attar.load("student.safetensors")  # logits = net(images)',
)
