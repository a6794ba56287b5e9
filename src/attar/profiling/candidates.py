"""Networks that could be students, chosen by rules, and their sizes without any weights."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from attar.errors import AttarError
from attar.models import create_model, list_models, model_info
from attar.models.libraries.imports import import_timm
from attar.models.libraries.names import checked_name, library_of, outside
from attar.models.libraries.torchvision_models import models as torchvision_models
from attar.models.registry import MODELS
from attar.profiling.cost import blank_images, macs, parameters

# The zoo is made for images up to this side; networks of libraries need as much, since they shrink it by 32.
SIDE = 64
IMAGENET_CLASSES = 1000
LITE = "efficientnet_lite"
# Where a network has several names, the first of these libraries is kept; the zoo's names begin with "".
LIBRARIES = (LITE, "timm/", "torchvision/")
# What draws weights; on tensors without storage it is only slow.
DRAWS = {"normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_"}
DRAWS |= {"constant_", "ones_", "zeros_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_", "copy_"}

# What libraries raise where a network cannot be made for some images, or does not take them.
REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError, KeyError, IndexError)


@dataclass(frozen=True)
class Sketch:
    """A network without weights.

    Attributes:
        name: its name for `create_model`.
        family: its kind: of the zoo the registered family, of a library the class; a function's network is its own.
        parameters: numbers that it learns.
        bytes: of its state.
    """

    name: str
    family: str
    parameters: int
    bytes: int

    @property
    def order(self) -> tuple[int, int, int, str]:
        """The one with more parameters first; of equal ones the shortest name of the first library."""
        library = next((place for place, start in enumerate(LIBRARIES, 1) if self.name.startswith(start)), 0)
        return -self.parameters, library, len(self.name), self.name


def candidate_names(side: int, among: Sequence[str] = ()) -> list[str]:
    """The names of possible students for images of a side.

    Up to 64 pixels the zoo; from 64 on EfficientNet-Lite, and of torchvision and timm, as far as they are installed,
    what is published as a classifier of ImageNet and takes such images.

    Args:
        side: of the images.
        among: shell patterns, and names module:function; given, they stand in place of these rules.

    Raises:
        AttarError: a pattern that no network matches, or large images and no library.
    """
    if among:
        found = {one: [one] if one in MODELS else list_models(one) for one in among}
        if none := [pattern for pattern, names in found.items() if not names]:
            raise AttarError(f"no network matches {none[0]!r}; `attar list networks` names them")
        return sorted({name for names in found.values() for name in names})
    names = list_models() if side <= SIDE else []
    if side >= SIDE and importlib.util.find_spec("timm"):
        names += [*list_models(f"{LITE}*"), *(f"timm/{name}" for name in timm_names(side))]
    if side >= SIDE and importlib.util.find_spec("torchvision"):
        names += [name for name in list_models("torchvision/*") if pretrained(name)]
    if not names:
        raise AttarError(f"images of {side}x{side} need networks of timm or torchvision: pip install 'attar[vision]'")
    return names


def timm_names(side: int) -> list[str]:
    """The architectures of timm with weights of an ImageNet classifier; those of a fixed size only where it is this.

    Those that timm has for its own tests are no students.
    """
    timm = import_timm()
    configs = {name: timm.get_pretrained_cfg(name) for name in timm.list_models()}
    return [
        name
        for name, config in configs.items()
        if config is not None
        and not name.startswith("test_")
        and config.has_weights
        and config.num_classes == IMAGENET_CLASSES
        and not (config.fixed_input_size and config.input_size[-1] != side)
    ]


def pretrained(name: str) -> tuple[str, ...]:
    """The weights that a library lists for a network, known without a connection; none for the zoo's."""
    if name.startswith("timm/"):
        short = name.removeprefix("timm/")
        tagged = import_timm().list_models(f"{short}.*", pretrained=True)
        return tuple(one.partition(".")[2] for one in tagged)
    if name.startswith("torchvision/"):
        return tuple(one.name for one in torchvision_models().get_model_weights(name.removeprefix("torchvision/")))
    return ("pretrained",) if name.startswith(LITE) else ()


def sketch(name: str, image_shape: tuple[int, int, int], classes: int, most: float = math.inf) -> Sketch | None:
    """A network's parameters and bytes, without memory for them; None where it has more than `most` or cannot be made.

    >>> sketch("resnet20", (3, 32, 32), 100).parameters
    278324
    """
    net = outline(name, image_shape, classes, most)
    if net is None:
        return None
    family = name if ":" in name else type(net).__name__ if outside(name) else model_info(name).family
    state = net.state_dict().values()
    return Sketch(name, family, parameters(net), sum(value.numel() * value.element_size() for value in state))


def operations(name: str, image_shape: tuple[int, int, int], classes: int) -> int | None:
    """Multiply-accumulates of one image, counted without computing; None where it does not take such images.

    >>> operations("resnet20", (3, 32, 32), 100)
    40818944
    """
    net = outline(name, image_shape, classes)
    try:
        return None if net is None else macs(net, image_shape)
    except REFUSALS:
        return None


def trains(net: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    """Whether a network in training mode turns two images into logits alone; some add those of auxiliary heads."""
    try:
        with torch.no_grad():
            return isinstance(net.train()(blank_images(net, image_shape, 2)), Tensor)
    except REFUSALS:
        return False


def outline(name: str, image_shape: tuple[int, int, int], classes: int, most: float = math.inf) -> nn.Module | None:
    """A network on the meta device; building one stops as soon as it has more than `most` parameters."""
    channels, side, _ = image_shape
    library = library_of(name)
    try:
        with warnings.catch_warnings(), _at_most(most), torch.device("meta"), _Undrawn():
            warnings.simplefilter("ignore")
            if library is None:
                return create_model(name, classes, channels, side)
            return library.create(checked_name(library, name), classes, channels, side, {})
    except (_Full, *REFUSALS):
        return None


class _Full(Exception):  # noqa: N818 - not an error: what is asked for is known
    """The network has more parameters than it may."""


@contextmanager
def _at_most(most: float) -> Iterator[None]:
    """Stops whoever builds more parameters than that."""
    held = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal held
        before = module._parameters.get(name)
        held += (0 if parameter is None else parameter.numel()) - (0 if before is None else before.numel())
        if held > most:
            raise _Full

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


class _Undrawn(TorchFunctionMode):
    """Leaves tensors as they are where others would draw their values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
