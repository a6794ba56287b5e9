"""What a recipe may hold: its keys, sizes, names and ranges."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from attar.errors import AttarError, unknown
from attar.recipe.schema import CHOICES, Recipe


def check_keys(tree: dict[str, Any], cls: type = Recipe, prefix: str = "") -> None:
    """Unknown keys, each answered with the nearest full key."""
    known = {f.name: f for f in dataclasses.fields(cls)}
    for key, given in tree.items():
        if key not in known:
            raise unknown("key", f"{prefix}{key}", [f"{prefix}{name}" for name in known])
        section = known[key].default_factory
        if dataclasses.is_dataclass(section):
            if not isinstance(given, dict):
                raise AttarError(f"{prefix}{key}: expected a section of keys, got {shown(given)}")
            check_keys(given, section, f"{prefix}{key}.")


def check_sizes(given: Any, key: str = "") -> None:
    """No whole number is too large for 64 bits, wherever it stands."""
    if isinstance(given, int) and abs(given) >= 2**63:
        raise AttarError(f"{key} is too large: a whole number must be below 2^63")
    parts = given.items() if isinstance(given, dict) else enumerate(given) if isinstance(given, list) else ()
    for part, inner in parts:
        check_sizes(inner, f"{key}.{part}" if key else str(part))


def shown(given: Any) -> str:
    """A value in a message: itself where it is short and simple."""
    return repr(given) if isinstance(given, str | int | float | None) else f"a {type(given).__name__}"


def check_values(recipe: Recipe) -> None:
    for key, choices in CHOICES.items():
        given: Any = recipe
        for part in key.split("."):
            given = getattr(given, part)
        if str(given).startswith("given:") and given not in choices:
            raise AttarError(
                f"{key} was an object in Python ({given}), so the folder cannot rebuild it; one in a module "
                "is found again"
            )
        if given not in choices:
            raise unknown(f"value of {key}:", str(given), choices)
    paths = {
        "teacher.weights": recipe.teacher.weights,
        "teacher.cache": recipe.teacher.cache,
        "student.weights": recipe.student.weights,
        "data.root": recipe.data.root,
        "data.unlabelled": recipe.data.unlabelled,
        "alone": recipe.alone,
    }
    for key, path in paths.items():
        if path == "":  # which would be read as the folder of now
            raise AttarError(f"{key} is empty; give a path, or leave it out")
    optim = recipe.optim
    positive: dict[str, float | None] = {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "seeds": recipe.seeds,
        "checkpoint_minutes": recipe.checkpoint_minutes,
        "jobs": recipe.jobs,
        "patience": recipe.patience,
        "teacher.epochs": recipe.teacher.epochs,
        "teacher.cache_top": recipe.teacher.cache_top,
        "data.unlabelled_batch": recipe.data.unlabelled_batch,
        "data.repeats": recipe.data.repeats,
        "optim.lr": optim.lr,
        "optim.gamma": optim.gamma,
        "optim.accumulate": optim.accumulate,
        "optim.clip_norm": optim.clip_norm,
    }
    for key, number in positive.items():
        if number is not None and not 0 < number < math.inf:
            raise AttarError(f"{key} must be above 0, got {number}")
    not_negative = {
        "optim.weight_decay": optim.weight_decay,
        "optim.warmup": optim.warmup,
        "optim.min_lr": optim.min_lr,
        "data.mixup": recipe.data.mixup,
        "data.cutmix": recipe.data.cutmix,
    }
    for key, number in not_negative.items():
        if not 0 <= number < math.inf:
            raise AttarError(f"{key} must be 0 or above, got {number}")
    if optim.min_lr > optim.lr:
        raise AttarError(f"optim.min_lr, where schedules end, is {optim.min_lr}, above optim.lr, {optim.lr}")
    shares = {
        "data.val_fraction": recipe.data.val_fraction,
        "optim.momentum": optim.momentum,
        "optim.delta": optim.delta,
        "optim.label_smoothing": optim.label_smoothing,
    }
    for key, number in shares.items():
        if not 0 <= number < 1:
            raise AttarError(f"{key} must be in [0, 1), got {number}")
    if optim.layer_decay is not None and not 0 < optim.layer_decay <= 1:
        raise AttarError(f"optim.layer_decay must be above 0 and at most 1, got {optim.layer_decay}")
    if recipe.patience is not None and recipe.data.val_fraction == 0:
        raise AttarError("patience needs a validation set; give data.val_fraction, or leave patience out")
    if optim.ema is not None and not 0 < optim.ema < 1:
        raise AttarError(f"optim.ema must be between 0 and 1, got {optim.ema}")
    if not 0 <= recipe.seed < 2**63 - recipe.seeds:
        raise AttarError(f"seed must be in 0..2^63, got {recipe.seed}")
    for key, entries, kind in (("track", recipe.track, str), ("optim.milestones", optim.milestones, float)):
        for entry in entries:
            if not isinstance(entry, kind):
                raise AttarError(f"{key} must be a list of {kind.__name__}, got {shown(entry)} in it")
    for milestone in optim.milestones:
        if not 0 <= milestone <= 1:
            raise AttarError(f"optim.milestones are parts of the training, 0 to 1; got {milestone}")
    if recipe.select == "best" and recipe.data.val_fraction == 0:
        raise AttarError("select=best needs a validation set; give data.val_fraction, or select=last")
