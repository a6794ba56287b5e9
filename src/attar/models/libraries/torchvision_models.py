"""torchvision: its image classifiers and what they expect to see."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor, nn

from attar.errors import AttarError
from attar.models.libraries.imports import import_torchvision
from attar.models.preprocessing import INTERPOLATIONS, ImageInput


def models() -> ModuleType:
    import_torchvision()
    import torchvision.models

    return torchvision.models


def names() -> list[str]:
    """Every classifier of torchvision."""
    return models().list_models(module=models())


def has(name: str) -> bool:
    return name in names()


def create(name: str, num_classes: int, in_channels: int, side: Any, options: dict[str, Any]) -> nn.Module:
    """A torchvision network, newly initialised; transformers are made for the side of the images."""
    net = models().get_model(name, weights=None, num_classes=num_classes, **sized(name, side), **options)
    if in_channels != 3:
        take_channels(net, in_channels)
    return net


def sized(name: str, side: Any) -> dict[str, Any]:
    """The arguments that fix the size, and what would only warn (about a slow initialisation)."""
    if name.startswith("vit_"):
        if not isinstance(side, int):
            raise AttarError(
                f"torchvision/{name} takes square images only; give student.options.input_size=224, say "
                "(teacher. for a teacher), or a timm network"
            )
        return {"image_size": side}
    return {"init_weights": True} if name in ("googlenet", "inception_v3") else {}


def take_channels(net: nn.Module, channels: int) -> None:
    """Draw the first convolution anew for images of other channels."""
    path, conv = next((path, one) for path, one in net.named_modules() if isinstance(one, nn.Conv2d))
    parent, _, name = path.rpartition(".")
    like = {key: getattr(conv, key) for key in ("kernel_size", "stride", "padding", "dilation")}
    setattr(net.get_submodule(parent), name, nn.Conv2d(channels, conv.out_channels, bias=conv.bias is not None, **like))


def expects(name: str) -> tuple[ImageInput, int]:
    """What its default weights were trained on, and their number of classes."""
    weights = models().get_model_weights(name).DEFAULT
    seen = weights.transforms()
    how = seen.interpolation.value if seen.interpolation.value in INTERPOLATIONS else "bicubic"
    return ImageInput(tuple(seen.mean), tuple(seen.std), seen.crop_size[0], how), len(weights.meta["categories"])


def published(name: str, side: Any, options: dict[str, Any]) -> dict[str, Tensor]:
    """The weights torchvision fetches; its transformers have one size."""
    return models().get_model(name, weights="DEFAULT", **options).state_dict()
