"""Imports of the libraries that Attar does without until a network of theirs is named."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import torch

from attar.errors import AttarError

# Kept for good: a library that is collected takes its schemas with it.
_SCHEMAS: list[torch.library.Library] = []
SUPPRESSIONS = ("nms", "qnms")


def import_torchvision() -> ModuleType:
    """torchvision, also beside a torch whose build its compiled operators do not match (a CPU build, say).

    Its import then stops at `torchvision::nms does not exist`. Once the schemas of the missing operators are defined,
    models and transforms work; the operators themselves, which only detection needs, stay absent.

    Raises:
        AttarError: it is not installed.
    """
    try:
        return optional("torchvision", "vision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    schemas = torch.library.Library("torchvision", "FRAGMENT")
    for operator in SUPPRESSIONS:
        schemas.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _SCHEMAS.append(schemas)
    return optional("torchvision", "vision")


def import_timm() -> ModuleType:
    """timm, which imports torchvision.

    Raises:
        AttarError: it is not installed.
    """
    import_torchvision()
    return optional("timm", "vision")


def import_transformers() -> ModuleType:
    """transformers, which imports torchvision where that is installed.

    Raises:
        AttarError: it is not installed.
    """
    if importlib.util.find_spec("torchvision"):
        import_torchvision()
    return optional("transformers", "hf")


def optional(module: str, extra: str) -> ModuleType:
    """Import a module of an extra.

    Raises:
        AttarError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A package that is there but misses one of its own is the user's to know, too.
        raise AttarError(
            f"{error.name or module} is not installed; install it with: pip install 'attar[{extra}]'"
        ) from None
