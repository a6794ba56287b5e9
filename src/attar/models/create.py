"""Create a network by name: from the zoo, or from another library."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from attar.errors import AttarError, unknown
from attar.models.libraries.create import create_outside
from attar.models.libraries.names import checked_name, library_names, library_of, outside
from attar.models.preprocessing import adapt_input, resized_input, saved_input
from attar.models.registry import BUILDERS, MODELS, ModelInfo
from attar.models.surgery.headless import headless
from attar.models.surgery.staged import Staged
from attar.models.weights import Head, Weights, load_weights
from attar.sizes import Size, height_width, shortest


def list_models(pattern: str = "*") -> list[str]:
    """The names that match a shell pattern, sorted.

    A pattern that begins with "timm/", "torchvision/" or "efficientnet_lite" lists that library's networks and imports
    it; any other lists the zoo.

    >>> list_models("wrn_40*")
    ['wrn_40_1', 'wrn_40_2']
    """
    return library_names(pattern) if outside(pattern) else MODELS.names(pattern)


def model_info(name: str) -> ModelInfo:
    """The record of a network: family, description, options.

    Raises:
        AttarError: an unknown name; of a library's network only its options are unknown beforehand.
    """
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
    image_size: Size = 32,
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
        num_classes: how many logits; 0: no classifier, forward(images) -> features (B, D). Weights may have one.
        in_channels: channels of the images: 3 for colour, 1 for grey.
        image_size: side of the images, or their height and width; it fixes `input_shape` and is checked against what
            the network can take.
        weights: a file for `load_weights`, or "pretrained" for the weights a library publishes; None leaves the random
            initialisation.
        classes: which rows of the weights' classifier to keep, in the order of the logits: ten of ImageNet's thousand,
            say. None keeps them all.
        head: where the weights know another number of classes, "same" refuses and "fresh" begins the classifier anew.
        mean: how the images will be normalised, per channel. A network with published weights, or with weights that
            Attar saved, then turns them into what it was trained on; None means that they are normalised as it wants.
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
    if num_classes == 0:
        given = {"mean": mean, "std": std, **options}
        with warnings.catch_warnings():
            # The classifier that begins anew is the one that is taken out.
            warnings.filterwarnings("ignore", message=".*classifier")
            return headless(create_model(name, 1, in_channels, image_size, weights, head="fresh", **given))
    for what, number in {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}.items():
        if min(height_width(number)) < 1:
            raise AttarError(f"{what} is {number}; give a positive number")
    image_size = shortest(image_size)
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    if outside(name):
        normalisation = (tuple(mean), tuple(std)) if mean is not None and std is not None else None
        # Nearly all of them are staged; whoever asks for stages holds the others' class against it.
        return cast(Staged, create_outside(name, sizes, Weights(weights, head, classes), normalisation, options))
    side = shortest(options.pop("input_size", image_size))
    net = _of_zoo(name, {**sizes, "image_size": side}, options)
    if weights is not None:
        load_weights(net, weights, head, classes)
    seen = None if mean is None or std is None else saved_input(weights)
    if seen is not None:
        assert mean is not None
        assert std is not None
        return cast(Staged, adapt_input(net, mean, std, image_size, replace(seen, size=side)))
    return net if side == image_size else resized_input(net, image_size)


def _of_library(name: str, num_classes: int, in_channels: int, input_size: int | None = None, **options: Any) -> Staged:
    """A network of a library at its constructor's face value."""
    if input_size is not None:
        options["input_size"] = input_size
    return create_model(name, num_classes, in_channels, **options)


def _of_zoo(name: str, sizes: Mapping[str, Any], options: Mapping[str, Any]) -> Staged:
    """A network of the zoo, newly initialised, with its shape and spec."""
    info = MODELS[name]
    for option in options:
        if option not in info.options:
            raise unknown(f"option of {name}", option, info.options)
    given = sizes if info.takes_size else {key: sizes[key] for key in ("num_classes", "in_channels")}
    net = info.build(**given, **options)
    height, width = height_width(sizes["image_size"])
    smallest = getattr(net, "smallest", 1)  # a registered network may be a plain module
    if min(height, width) < smallest:
        raise AttarError(
            f"{name} needs images of {smallest}x{smallest} or more, got {height}x{width}; choose another network"
        )
    net.input_shape = (sizes["in_channels"], height, width)
    sizes = {**sizes, "image_size": height if height == width else [height, width]}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    net.spec = {"name": name, **sizes, **plain}
    return net


BUILDERS["model"] = lambda spec: create_model(**spec)
