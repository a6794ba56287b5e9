"""Attar: knowledge distillation, with who teaches whom written down.

The names below are loaded when they are first used, so that `import attar` costs nothing until then.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "attar.api": (
        "compare",
        "distill",
        "evaluate",
        "export",
        "predict",
        "profile",
        "resume",
        "search",
        "suggest",
        "train_model",
    ),
    "attar.batch": ("Address", "Batch"),
    "attar.choices": ("list_optimisers", "list_schedules", "register_optimiser", "register_schedule"),
    "attar.data": (
        "list_augmentations",
        "list_datasets",
        "load_data",
        "register_augmentation",
        "register_dataset",
    ),
    "attar.deploy": ("list_formats", "load", "register_format"),
    "attar.errors": ("AttarError",),
    "attar.knowledge": ("Knowledge", "Losses", "Output", "Transfer"),
    "attar.conformance": ("check_method",),
    "attar.metrics": ("list_metrics", "register_metric"),
    "attar.methods": ("Method", "Offline", "create_method", "list_methods", "method_info", "register"),
    "attar.models": ("create_model", "list_models", "register_model"),
    "attar.profiling": ("Profile", "Suggestion"),
    "attar.recipe": ("Recipe", "read_recipe"),
    "attar.report.data_check": ("check_data",),
    "attar.tasks": ("create_task", "list_tasks", "register_task"),
    "attar.track": ("list_trackers", "register_tracker"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    try:
        return importlib.import_module(f"attar.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module 'attar' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return [*globals(), *__all__]
