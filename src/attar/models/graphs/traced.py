"""What the graph formats share: the traced network, the metadata of its file, and the message where tracing fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.errors import AttarError
from attar.files import utf8
from attar.knowledge import Output, logits_of
from attar.models.surgery.taps import observe

INPUT, OUTPUT = "images", "logits"
# Of inputs by name the dimensions whose size is open, besides the batch.
OpenSizes = Mapping[str, Sequence[int]]
RESIZE = "scaled until it covers the read size (bilinear, antialiased), the image size cut out of the centre"


class Deployed(nn.Module):
    """A network as it stands in a file: images to logits, with the normalisation inside where it is baked.

    Args:
        net: the student.
        mean: per channel, in 0..1 units.
        std: per channel, in 0..1 units.
        bake: take uint8 pixels 0..255 in place of normalised float32 images.
        temperature: what logits are divided by.

    >>> pixels = torch.full((1, 1, 1, 2), 255, dtype=torch.uint8)
    >>> Deployed(nn.Flatten(), [0.5], [0.25], bake=True)(pixels)
    tensor([[2., 2.]])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, net: nn.Module, mean: list[float], std: list[float], bake: bool, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.net, self.bake, self.temperature = net, bake, temperature
        # In byte units and in this order, as the data loader normalises.
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        messages = self.net((images.float() - self.mean) / self.std if self.bake else images)
        logits = messages.logits if isinstance(messages, Output) else messages
        return logits if self.temperature == 1 else logits / self.temperature

    def inputs(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) as this network takes them: the bytes they were made of, where it is baked."""
        return (images * self.std + self.mean).round().clamp(0, 255).to(torch.uint8) if self.bake else images


class DeployedByName(nn.Module):
    """A network of several inputs as it stands in a file, which takes them in order.

    Args:
        net: the student.
        names: of its inputs.
    """

    def __init__(self, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.net, self.names = net, tuple(names)

    def forward(self, *tensors: Tensor) -> Tensor:
        return logits_of(self.net(**dict(zip(self.names, tensors, strict=True))))


class WithTaps(nn.Module):
    """A frozen network as a graph: normalised images to its logits, then the taps in their order.

    Args:
        net: in eval mode.
        taps: what `attar.models.observe` can watch.
    """

    def __init__(self, net: nn.Module, taps: Sequence[str]) -> None:
        super().__init__()
        self.net, self.taps = net, tuple(taps)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = observe(self.net, images, self.taps)
        return (output.logits, *(output.tap(tap) for tap in self.taps))

    def inputs(self, images: Tensor) -> Tensor:
        """Normalised images as this network takes them."""
        return images

    @property
    def outputs(self) -> list[str]:
        return [OUTPUT, *self.taps]


Traced = Deployed | DeployedByName | WithTaps


class Loaded(nn.Module):
    """A file that was read again, called like a network.

    Args:
        run: called with the inputs in order.
        names: of the inputs, where there are several.
    """

    def __init__(self, run: Callable[..., Tensor], names: Sequence[str] = ()) -> None:
        super().__init__()
        self.run, self.names = run, tuple(names)

    def forward(self, *images: Tensor, **named: Tensor) -> Tensor:
        return self.run(*images, *(named[name] for name in self.names))


def facts(card: dict[str, Any], bake: bool, read_size: int | tuple[int, int] | None = None) -> dict[str, str]:
    """The metadata of a file: all that is needed to prepare an image, to name what was recognised, and to score it.

    Args:
        card: the JSON beside the student's weights.
        bake: whether the normalisation is inside.
        read_size: side in pixels, or height and width, that image files are scaled to before the centre is cut out;
            None: the image size.

    >>> card = {"classes": ["cat", "dog"], "image_shape": [1, 8, 8], "mean": [0.5], "std": [0.5], "data": "pets"}
    >>> facts(card, bake=True)["input"]
    'uint8 (N, 1, 8, 8), pixels 0..255'
    """
    channels, height, width = card["image_shape"]
    shape = f"(N, {channels}, {height}, {width})"
    found = {
        "classes": json.dumps(card["classes"], ensure_ascii=False),
        "image_size": json.dumps([height, width]),
        "read_size": json.dumps(read_size or (height if height == width else [height, width])),
        "colour": "RGB" if channels == 3 else "grey" if channels == 1 else f"{channels} channels",
        "mean": json.dumps(card["mean"]),
        "std": json.dumps(card["std"]),
        "input": f"uint8 {shape}, pixels 0..255" if bake else f"float32 {shape}, (pixels / 255 - mean) / std",
        "resize": RESIZE,
        "task": card.get("task") or "",
        "task_options": json.dumps(card.get("task_options") or {}, ensure_ascii=False),
        "data": card["data"],
        "method": card.get("method") or "",
        "producer": "attar",
        **({"multilabel": "each class has a sigmoid of its own"} if card.get("multilabel") else {}),
    }
    return {key: utf8(value) for key, value in found.items()}


def sample_facts(card: dict[str, Any], example: Inputs, open_sizes: OpenSizes | None = None) -> dict[str, str]:
    """The metadata of a file whose network takes other samples than images; its arguments are those of `facts`.

    Args:
        card: the JSON beside the student's weights.
        example: inputs as the network takes them.
        open_sizes: see `axes`.

    >>> card = {"task": "language", "data": "text", "tokenizer": "bytes"}
    >>> sample_facts(card, torch.zeros(2, 8, dtype=torch.int64))["input"]
    'int64 (N, L)'
    """
    given = example if isinstance(example, dict) else {"": example}
    shapes = {name: described(one, lengths(one, name, open_sizes)) for name, one in given.items()}
    kept: dict[str, str] = {key: str(card[key]) for key in ("tokenizer", "mean", "std") if key in card}
    return {
        "input": ", ".join(f"{name} {shape}".strip() for name, shape in shapes.items()),
        **({"inputs": json.dumps([*given])} if isinstance(example, dict) else {}),
        "task": card.get("task") or "",
        **kept,
        "data": card["data"],
        "method": card.get("method") or "",
        "producer": "attar",
    }


def described(example: Tensor, open_dimensions: Collection[int]) -> str:
    """A tensor's type and shape, with letters where any size is taken.

    >>> described(torch.zeros(2, 8, dtype=torch.int64), [1])
    'int64 (N, L)'
    """
    sizes = ("L" if dimension in open_dimensions else str(size) for dimension, size in enumerate(example.shape))
    return f"{str(example.dtype).removeprefix('torch.')} ({', '.join(['N', *list(sizes)[1:]])})"


def lengths(example: Tensor, name: str = "", open_sizes: OpenSizes | None = None) -> Sequence[int]:
    """The dimensions whose size a file leaves open besides the batch: the length of token ids (N, L)."""
    if open_sizes and name in open_sizes:
        return open_sizes[name]
    return [1] if example.ndim == 2 and not example.is_floating_point() else []


def axes(example: Inputs, open_sizes: OpenSizes | None = None) -> tuple[Any]:
    """The open dimensions of a network's inputs, as torch.export wants them.

    Args:
        example: inputs as the network takes them.
        open_sizes: of inputs by name the dimensions that are open besides the batch; the network's `open_sizes`.
    """
    batch, auto = torch.export.Dim("batch"), torch.export.Dim.AUTO
    if isinstance(example, Tensor):
        return ({0: batch, **dict.fromkeys(lengths(example), auto)},)
    # The tensors of `DeployedByName`, which are one argument.
    return (tuple({0: batch, **dict.fromkeys(lengths(one, key, open_sizes), auto)} for key, one in example.items()),)


def arguments(example: Inputs) -> tuple[Tensor, ...]:
    """Inputs in the order in which a file takes them."""
    return tuple(example.values()) if isinstance(example, dict) else (example,)


def untraceable(kind: str, error: Exception) -> AttarError:
    """One line for a network that a format cannot hold, with the operator where the exporter names one."""
    messages = []
    seen: BaseException | None = error
    while seen is not None:
        messages.append(f"{type(seen).__name__}: {seen}")
        seen = seen.__cause__
    text = "\n".join(reversed(messages))
    # The first is ONNX's message, the second ExecuTorch's.
    if found := re.search(r"OpOverload\(op='([^']+)'|Operator torch\._ops\.(\S+) is not", text):
        name = found[1] or found[2]
        return AttarError(f"{kind} has no operator {name}; replace it in the network, or leave {kind} out")
    lines = [line.strip() for line in messages[-1].splitlines() if line.strip()]
    return AttarError(f"{kind} cannot hold this network ({lines[0]}); leave {kind} out")
