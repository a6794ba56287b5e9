"""Imports of torchvision, timm, transformers and peft, which load only when something of theirs is named."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import torch

from attar.extras import require

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
        return require("torchvision", "a network of torchvision", "vision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    schemas = torch.library.Library("torchvision", "FRAGMENT")
    for operator in SUPPRESSIONS:
        schemas.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _SCHEMAS.append(schemas)
    return require("torchvision", "a network of torchvision", "vision")


def import_timm() -> ModuleType:
    """timm, which imports torchvision.

    Raises:
        AttarError: it is not installed.
    """
    import_torchvision()
    return require("timm", "a network of timm", "vision")


def import_transformers() -> ModuleType:
    """transformers, which imports torchvision where that is installed.

    Raises:
        AttarError: it is not installed.
    """
    if importlib.util.find_spec("torchvision"):
        import_torchvision()
    return require("transformers", "a Hugging Face network", "hf")


def import_peft() -> ModuleType:
    """peft, which imports transformers and with it torchvision where that is installed.

    Raises:
        AttarError: it is not installed.
    """
    if importlib.util.find_spec("torchvision"):
        import_torchvision()
    return require("peft", "low-rank modules of a teacher (LoRA)", "text")
