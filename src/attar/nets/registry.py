"""Networks by name: what there is, and how one is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from attar.errors import AttarError, unknown
from attar.nets.staged import Staged
from attar.nets.weights import load_weights
from attar.registry import Registry


@dataclass(frozen=True)
class ModelInfo:
    """A network that can be made by name.

    Attributes:
        name: what `create_model` knows it by.
        family: the kind of network.
        description: one line for listings.
        build: called with num_classes, in_channels and the options.
    """

    name: str
    family: str
    description: str
    build: Callable[..., Staged]

    @property
    def options(self) -> list[str]:
        """What `create_model` takes for this network beyond classes and images."""
        return [name for name in inspect.signature(self.build).parameters if name not in ("num_classes", "in_channels")]


MODELS: Registry[ModelInfo] = Registry("network")


def register_model(name: str, *, family: str, description: str, build: Callable[..., Staged]) -> None:
    """Make a network known by name; a name that is taken is refused."""
    MODELS.add(ModelInfo(name, family, description, build))


def list_models(pattern: str = "*") -> list[str]:
    """The names that match a shell pattern, sorted.

    >>> list_models("wrn_40*")
    ['wrn_40_1', 'wrn_40_2']
    """
    return MODELS.names(pattern)


def model_info(name: str) -> ModelInfo:
    """The record of a network: family, description, options."""
    return MODELS[name]


def create_model(
    name: str,
    num_classes: int = 100,
    in_channels: int = 3,
    image_size: int = 32,
    weights: str | Path | None = None,
    **options: Any,
) -> Staged:
    """A network by name: forward(images) -> logits.

    Args:
        name: one of `list_models()`.
        num_classes: how many logits.
        in_channels: channels of the images: 3 for colour, 1 for grey.
        image_size: side of the images; it fixes `input_shape` and is checked against what the network can take.
        weights: a file for `load_weights`; None leaves the random initialisation.
        options: the family's own, `depths` and `widths` of the stages mostly.

    Raises:
        AttarError: an unknown name or option, an impossible size, weights that do not fit.

    >>> net = create_model("resnet8", num_classes=10, in_channels=1, image_size=8)
    >>> sum(parameter.numel() for parameter in net.parameters())
    77754
    """
    info = MODELS[name]
    for option in options:
        if option not in info.options:
            raise unknown(f"option of {name}", option, info.options)
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    for what, number in sizes.items():
        if number < 1:
            raise AttarError(f"{what} is {number}; give a positive number")
    net = info.build(num_classes=num_classes, in_channels=in_channels, **options)
    if image_size < net.smallest:
        side = net.smallest
        raise AttarError(f"{name} needs images of {side}x{side} or more, got {image_size}; choose another network")
    net.input_shape = (in_channels, image_size, image_size)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    net.spec = {"name": name, **sizes, **plain}
    if weights is not None:
        load_weights(net, weights)
    return net


Spec = Mapping[str, Any]
BUILDERS: dict[str, Callable[[Spec], nn.Module]] = {"model": lambda spec: create_model(**spec)}


def build(spec: Spec) -> nn.Module:
    """A network rebuilt from its `spec`, newly initialised.

    A spec is plain data that survives JSON. Its "kind" ("model" where it has none) says who rebuilds it; other
    modules enter theirs in `BUILDERS`.

    Raises:
        AttarError: a spec of an unknown kind, or one that is no spec.

    >>> build({"name": "resnet20", "num_classes": 10}).classifier
    Linear(in_features=64, out_features=10, bias=True)
    """
    fields = dict(spec)
    kind = fields.pop("kind", "model")
    if kind not in BUILDERS:
        raise unknown("kind of spec", kind, BUILDERS)
    if kind == "model" and "name" not in fields:
        raise AttarError(f"the spec has no 'name' but {sorted(fields)}; give a network's spec attribute")
    return BUILDERS[kind](fields)
