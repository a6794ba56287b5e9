"""What tasks share when they load data: the options of the recipe's data section, and its parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from attar.batch import Address
from attar.data.tensor_set import TensorSet, TensorSplits
from attar.errors import AttarError, unknown
from attar.recipe import Recipe


def check_options(recipe: Recipe, **defaults: Any) -> dict[str, Any]:
    """The options of the data section, or their defaults.

    Raises:
        AttarError: an option is unknown, of another type than its default, or a setting of images that these data have
            no use for.
    """
    data = recipe.data
    for name, value in data.options.items():
        if name not in defaults:
            raise unknown(f"option of data {data.name!r}:", name, defaults)
        wanted = (int, float) if isinstance(defaults[name], float) else type(defaults[name])
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise AttarError(f"data.{name} must be {type(defaults[name]).__name__}, got {value!r}")
    images = {"unlabelled": data.unlabelled, "mixup": data.mixup, "cutmix": data.cutmix, "augment": data.augment}
    for name, value in images.items():
        if value:
            raise AttarError(f"data.{name} is for classified images, not for data={data.name}; leave it out")
    return {**defaults, **data.options}


def divided(train: TensorSet, test: TensorSet, recipe: Recipe, val: TensorSet | None = None) -> TensorSplits:
    """The sets of a seed: a part of the training set kept apart, where none comes with the data, and a limited rest.

    Raises:
        AttarError: `data.train_size` is more than there is.
    """
    data = recipe.data
    if val is None and data.val_fraction:
        order = torch.randperm(len(train), generator=Address(recipe.seed).generator("split"))
        count = max(1, round(data.val_fraction * len(train)))
        val, train = train.subset(order[:count].sort().values), train.subset(order[count:].sort().values)
    if data.train_size is not None:
        if not 1 <= data.train_size <= len(train):
            raise AttarError(f"data.train_size must be 1 to {len(train)}, got {data.train_size}")
        order = torch.randperm(len(train), generator=Address(recipe.seed).generator("limit"))
        train = train.subset(order[: data.train_size].sort().values)
    unvaried = replace(test, vary=None)
    return TensorSplits(train, unvaried, None if val is None else replace(val, vary=None))
