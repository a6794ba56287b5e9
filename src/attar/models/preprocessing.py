"""What a network expects to see, and the layer that makes it of the images there are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.errors import AttarError
from attar.models.registry import BUILDERS, Spec, build
from attar.models.surgery.staged import Staged
from attar.sizes import Size, height_width, shortest

Numbers = Sequence[float]
INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True)
class ImageInput:
    """The images a network was trained on.

    Attributes:
        mean: per channel, in 0..1 units.
        std: per channel, in 0..1 units.
        size: the side of the images, or their height and width.
        interpolation: how they were brought to that size: "bicubic" or "bilinear".
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | tuple[int, int]
    interpolation: str = "bicubic"


class InputAdapter(nn.Module):
    """Images normalised one way at one size to another normalisation at another size.

    Per channel x * (std / own std) + (mean - own mean) / own std; grey images are repeated for networks of several
    channels; then a resize, antialiased where it shrinks. It has no parameters and nothing in a state dict.

    Args:
        mean: of the data's normalisation.
        std: of the data's normalisation.
        expects: what the network wants.

    >>> adapt = InputAdapter([0.5], [0.25], ImageInput((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 4))
    >>> adapt(torch.full((1, 1, 2, 2), 2.0)).shape, adapt(torch.full((1, 1, 2, 2), 2.0)).unique()
    (torch.Size([1, 3, 4, 4]), tensor([1.]))
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Numbers, std: Numbers, expects: ImageInput) -> None:
        super().__init__()
        if len(mean) != len(std) or len(mean) not in (1, len(expects.mean)):
            own = len(expects.mean)
            raise AttarError(
                f"images of {len(mean)} channels do not fit a network of {own}; give one mean and std each"
            )
        if expects.interpolation not in INTERPOLATIONS:
            raise AttarError(f"interpolation is {expects.interpolation!r}; give 'bicubic' or 'bilinear'")
        self.mean, self.std, self.expects = tuple(mean), tuple(std), expects
        given, spread = torch.tensor([*mean], dtype=torch.float64), torch.tensor([*std], dtype=torch.float64)
        theirs, width = torch.tensor(expects.mean).double(), torch.tensor(expects.std).double()
        scale, shift = spread / width, (given - theirs) / width
        self.register_buffer("scale", scale.float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = images * self.scale + self.shift
        size = height_width(self.expects.size)
        if x.shape[-2:] == size:
            return x
        shrinks = x.shape[-2] > size[0] or x.shape[-1] > size[1]
        return F.interpolate(x, size, mode=self.expects.interpolation, align_corners=False, antialias=shrinks)

    def extra_repr(self) -> str:
        return f"mean={self.mean}, std={self.std}, {self.expects}"


class Fronted:
    """Mixed into the class of a staged network: an adapter that belongs to its stem."""

    front: nn.Module

    def stem(self, images: Tensor) -> Tensor:
        return super().stem(self.front(images))  # type: ignore[misc]


class Preprocessed(nn.Module):
    """Any network behind an adapter; its own modules are below "net".

    Args:
        front: what makes the network's images.
        net: the network.
    """

    def __init__(self, front: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.front, self.net = front, net
        self.input_shape: tuple[int, int, int] | None = None
        self.spec: dict[str, Any] | None = None

    def forward(self, images: Tensor) -> Any:
        return self.net(self.front(images))


def adapt_input(net: nn.Module, mean: Numbers, std: Numbers, image_size: Size, expects: ImageInput) -> nn.Module:
    """A network that takes the data's images and sees the ones it was trained on; a staged one stays staged.

    Args:
        net: any network; its parameters are shared. Where the images are what it expects, it is returned itself.
        mean: of the data's normalisation, per channel in 0..1 units.
        std: of the data's normalisation.
        image_size: the side of the data's images, or their height and width.
        expects: what the network was trained on.

    Returns:
        The network behind an `InputAdapter`, which is saved and exported with it.

    Raises:
        AttarError: the channels do not agree.

    >>> from attar.models.create import create_model
    >>> net = create_model("resnet8", image_size=16)
    >>> adapted = adapt_input(net, [0.5] * 3, [0.5] * 3, 32, ImageInput((0.0,) * 3, (1.0,) * 3, 16))
    >>> adapted.input_shape, adapted.tap_names == net.tap_names
    ((3, 32, 32), True)
    """
    if (
        height_width(image_size) == height_width(expects.size)
        and tuple(mean) == expects.mean
        and tuple(std) == expects.std
    ):
        return net
    front = InputAdapter(mean, std, expects)
    adapted: Any
    if isinstance(net, Staged):
        adapted = type(net).__new__(fronted(type(net)))  # type: ignore[arg-type]
        adapted.__dict__ = {**net.__dict__, "_modules": {**net._modules, "front": front}}
        adapted.layout = net.layout._replace(stem=("front", *net.layout.stem))
    else:
        adapted = Preprocessed(front, net)
    adapted.input_shape = (len(mean), *height_width(image_size))
    adapted.spec = spec_of(front, getattr(net, "spec", None), image_size)
    return cast(nn.Module, adapted)


def resized_input(net: Staged, image_size: Size) -> Staged:
    """A network behind a resize from the data's images to the side it was made for; their normalisation stays.

    >>> from attar.models.create import create_model
    >>> net = resized_input(create_model("resnet8", image_size=32), 128)
    >>> net.input_shape, net.stem(torch.zeros(1, 3, 128, 128)).shape
    ((3, 128, 128), torch.Size([1, 16, 32, 32]))
    """
    assert net.input_shape is not None
    channels, *size = net.input_shape
    none = (0.0,) * channels, (1.0,) * channels
    return cast(Staged, adapt_input(net, *none, image_size, ImageInput(*none, shortest(size), "bilinear")))


def saved_input(weights: str | Path | None) -> ImageInput | None:
    """What weights that Attar saved were trained on, by the JSON beside them; None without one, or of other samples."""
    try:
        held = json.loads(Path(weights or "").with_suffix(".json").read_text(encoding="utf-8"))
        if "attar" not in held:
            return None
        size = shortest(held["image_shape"][1:])
        spec = held.get("spec") or {}
        while spec.get("kind") in ("headless", "adapted"):
            if spec["kind"] == "adapted":
                return _behind(expected(spec["expects"]), held)
            spec = spec["network"]
        return ImageInput(tuple(held["mean"]), tuple(held["std"]), size, "bilinear")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _behind(seen: ImageInput, held: Mapping[str, Any]) -> ImageInput:
    """What a network behind an adapter sees; one that only brings images to a size keeps the data's normalisation."""
    only_size = {*seen.mean} == {0.0} and {*seen.std} == {1.0}
    return replace(seen, mean=tuple(held["mean"]), std=tuple(held["std"])) if only_size else seen


@cache
def fronted(kind: type[Staged]) -> type[Staged]:
    """A staged network's class with a front."""
    return type(kind.__name__, (Fronted, kind), {"__doc__": kind.__doc__, "__module__": kind.__module__})


def spec_of(front: InputAdapter, network: Spec | None, image_size: Size) -> dict[str, Any] | None:
    """What rebuilds a network behind an adapter; None where the network cannot be rebuilt."""
    if network is None:
        return None
    expects = {key: list(held) if isinstance(held, tuple) else held for key, held in asdict(front.expects).items()}
    return {
        "kind": "adapted",
        "num_classes": network.get("num_classes"),
        "in_channels": len(front.mean),
        "image_size": image_size if isinstance(image_size, int) else list(image_size),
        "mean": list(front.mean),
        "std": list(front.std),
        "expects": expects,
        "network": dict(network),
    }


def expected(held: Spec) -> ImageInput:
    """An `ImageInput` from its fields in a spec."""
    return ImageInput(tuple(held["mean"]), tuple(held["std"]), shortest(held["size"]), held["interpolation"])


def _adapted(spec: Spec) -> nn.Module:
    return adapt_input(build(spec["network"]), spec["mean"], spec["std"], spec["image_size"], expected(spec["expects"]))


BUILDERS["adapted"] = _adapted
