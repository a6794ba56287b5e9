"""Networks by name: what there is, and how one is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import nn

from attar.errors import AttarError, unknown
from attar.nets.staged import Staged
from attar.nets.weights import Head, Weights, load_weights
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
        parameters = inspect.signature(self.build).parameters.values()
        named = [one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
        return [name for name in named if name not in ("num_classes", "in_channels")]


MODELS: Registry[ModelInfo] = Registry("network")


def register_model(name: str, *, family: str, description: str, build: Callable[..., Staged]) -> None:
    """Make a network known by name; a name that is taken is refused."""
    MODELS.add(ModelInfo(name, family, description, build))


def list_models(pattern: str = "*") -> list[str]:
    """The names that match a shell pattern, sorted.

    A pattern that begins with "timm/", "torchvision/" or "efficientnet_lite" lists that library's networks and imports
    it; any other lists the zoo.

    >>> list_models("wrn_40*")
    ['wrn_40_1', 'wrn_40_2']
    """
    from attar.nets.library.names import library_names, outside

    return library_names(pattern) if outside(pattern) else MODELS.names(pattern)


def model_info(name: str) -> ModelInfo:
    """The record of a network: family, description, options.

    Raises:
        AttarError: an unknown name; of a library's network only its options are unknown beforehand.
    """
    from attar.nets.library.names import checked_name, library_of, outside

    if not outside(name):
        return MODELS[name]
    if library := library_of(name):
        checked_name(library, name)
    family = name.partition("/")[0]
    return ModelInfo(name, family, f"a network of {family}", partial(_of_library, name))


def create_model(
    name: str,
    num_classes: int = 100,
    in_channels: int = 3,
    image_size: int = 32,
    weights: str | Path | None = None,
    *,
    head: Head = "same",
    classes: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **options: Any,
) -> Staged:
    """A network by name: forward(images) -> logits.

    Args:
        name: one of `list_models()`; or "timm/NAME", "torchvision/NAME", "efficientnet_lite0" to 2, "hf/FOLDER"
            (written by save_pretrained) or "onnx/FILE.onnx" (a frozen teacher that gives logits only).
        num_classes: how many logits.
        in_channels: channels of the images: 3 for colour, 1 for grey.
        image_size: side of the images; it fixes `input_shape` and is checked against what the network can take.
        weights: a file for `load_weights`, or "pretrained" for the weights a library publishes; None leaves the random
            initialisation.
        classes: which rows of the weights' classifier to keep, in the order of the logits: ten of ImageNet's thousand,
            say. None keeps them all.
        head: where the weights know another number of classes, "same" refuses and "fresh" begins the classifier anew.
        mean: how the images will be normalised, per channel. A library's network with published weights then turns them
            into what it was trained on; None means that they are normalised as it wants.
        std: of the same normalisation.
        options: the family's own, `depths` and `widths` of the stages mostly; a library's networks take those of their
            constructors, and `input_size`, the side that images are brought to first.

    Returns:
        A `Staged` network; a network of a library whose family is not known is a plain module with `input_shape` and
        `spec`.

    Raises:
        AttarError: an unknown name or option, an impossible size, weights that do not fit, a library that is missing.

    >>> net = create_model("resnet8", num_classes=10, in_channels=1, image_size=8)
    >>> sum(parameter.numel() for parameter in net.parameters())
    77754
    """
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    for what, number in sizes.items():
        if number < 1:
            raise AttarError(f"{what} is {number}; give a positive number")
    from attar.nets.library.names import outside

    if outside(name):
        from attar.nets.library.create import create_outside

        normalisation = (tuple(mean), tuple(std)) if mean is not None and std is not None else None
        # Nearly all of them are staged; whoever asks for stages holds the others' class against it.
        return cast(Staged, create_outside(name, sizes, Weights(weights, head, classes), normalisation, options))
    side = options.pop("input_size", image_size)
    net = _of_zoo(name, {**sizes, "image_size": side}, options)
    if weights is not None:
        load_weights(net, weights, head, classes)
    if side != image_size:
        from attar.nets.inputs import resized_input

        net = resized_input(net, image_size)
    return net


def _of_library(name: str, num_classes: int, in_channels: int, input_size: int | None = None, **options: Any) -> Staged:
    """A network of a library at its constructor's face value."""
    if input_size is not None:
        options["input_size"] = input_size
    return create_model(name, num_classes, in_channels, **options)


def _of_zoo(name: str, sizes: Mapping[str, int], options: Mapping[str, Any]) -> Staged:
    """A network of the zoo, newly initialised, with its shape and spec."""
    info = MODELS[name]
    for option in options:
        if option not in info.options:
            raise unknown(f"option of {name}", option, info.options)
    net = info.build(num_classes=sizes["num_classes"], in_channels=sizes["in_channels"], **options)
    side = sizes["image_size"]
    if side < net.smallest:
        raise AttarError(
            f"{name} needs images of {net.smallest}x{net.smallest} or more, got {side}; choose another network"
        )
    net.input_shape = (sizes["in_channels"], side, side)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    net.spec = {"name": name, **sizes, **plain}
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
