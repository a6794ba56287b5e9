"""Runs of a suite that were trained with another version of the user's own code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attar.choices import OPTIMISERS, SCHEDULES
from attar.data.registry import DATASETS
from attar.errors import AttarError
from attar.methods.registry import METHODS
from attar.metrics.registry import METRICS
from attar.models.registry import MODELS
from attar.plugins import changed_imports, modules_of
from attar.recipe import Recipe
from attar.registry import Registry
from attar.tasks.registry import TASKS


def check_same_code(folder: Path, recipe: Recipe) -> None:
    """Refuse a run whose method, networks, data or settings are of a file that has changed since.

    Raises:
        AttarError: the file's name.
    """
    for name in changed_imports(folder):
        if modules_of(name) & set(_modules(recipe)):
            raise AttarError(
                f"it was trained with another {name}; put that back, delete the run's folder to train it again, or "
                "choose another out"
            )


def _modules(recipe: Recipe) -> Iterator[str]:
    """The modules of everything registered that a recipe names."""
    networks = f"{recipe.teacher.name or ''},{recipe.student.name or ''}".split(",")
    named: list[tuple[Registry[Any], list[str]]] = [
        (METHODS, recipe.method.name.split("+")),
        (MODELS, networks),
        (DATASETS, [recipe.data.name]),
        (TASKS, [recipe.task.name]),
        (OPTIMISERS, [recipe.optim.name]),
        (SCHEDULES, [recipe.optim.schedule]),
        (METRICS, list(recipe.metrics)),
    ]
    for table, names in named:
        for record in (table[name.strip()] for name in names if name and name.strip() in table):
            parts = [part for part in vars(record).values() if callable(part)]
            yield from (str(getattr(part, "func", part).__module__) for part in parts)  # of a partial, its function's
