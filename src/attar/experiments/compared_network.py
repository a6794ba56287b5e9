"""A second saved network to compare a first with: it sees the same samples, its classes in the first one's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.data import ImageSet, Samples
from attar.deploy import load_card
from attar.deploy.package import student_file
from attar.errors import AttarError
from attar.models import adapt_input, class_rows
from attar.models.preprocessing import ImageInput
from attar.records import shortened


class Reordered(nn.Module):
    """A network whose logits are put into another order of the classes."""

    rows: Tensor

    def __init__(self, net: nn.Module, rows: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("rows", torch.tensor(rows))

    def forward(self, inputs: Any) -> Tensor:
        logits: Tensor = self.net(inputs)
        return logits[:, self.rows]


def compared_network(net: nn.Module, path: str | Path, first: Mapping[str, Any], test: Samples, task: str) -> nn.Module:
    """A saved network that can be compared on the samples of another one's test set.

    Images are brought to its own normalisation and size, and its logits into the order of the first one's classes.

    Args:
        net: the saved network.
        path: where it is from: a run's folder or a .safetensors file.
        first: the JSON of the network it is compared with.
        test: what both see, prepared for the first.
        task: of the first, which the JSON in some exported files does not name.

    Raises:
        AttarError: it is of another task, of other classes, or takes other inputs or ids of another tokenizer.
    """
    second = load_card(student_file(Path(path)))
    facts: dict[str, tuple[Any, Any]] = {"task": (task, second.get("task") or "classification")}
    # Records of older versions lack what an id means; images are brought to their own order of the classes.
    told = ("tokenizer_digest", "pairs", *(() if isinstance(test, ImageSet) else ("classes",)))
    names = ("input_shape", "outputs", *(name for name in told if name in first and name in second))
    facts |= {name: (first.get(name), second.get(name)) for name in names}
    for what, (one, two) in facts.items():
        # Sequences may have any length that a network takes.
        if one != two and not (what == "input_shape" and one and two and len(one) == len(two) == 1):
            its, other = (value if isinstance(value, str) else shortened(value) for value in (one, two))
            raise AttarError(f"--teacher {path} has {what} {other}, the network {its}; give one like it")
    if not isinstance(test, ImageSet) or "image_shape" not in second:
        return net
    theirs, own = second.get("classes") or [], first.get("classes") or []
    if len(theirs) != len(own):
        raise AttarError(f"--teacher {path} has {len(theirs)} classes, the network {len(own)}; give one like it")
    if (rows := class_rows(theirs, own, f"--teacher {path}")) is not None:
        net = Reordered(net, rows)
    expects = ImageInput(tuple(second["mean"]), tuple(second["std"]), tuple(second["image_shape"][1:]), "bilinear")
    return adapt_input(net, test.mean, test.std, test.image_shape[1:], expects).eval()
