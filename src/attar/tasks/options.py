"""What tasks share when they load data: the options of the recipe's data section."""

from __future__ import annotations

from typing import Any

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
        if not isinstance(value, wanted) or isinstance(value, bool) != isinstance(defaults[name], bool):
            raise AttarError(f"data.{name} must be {type(defaults[name]).__name__}, got {value!r}")
    images = {"unlabelled": data.unlabelled, "mixup": data.mixup, "cutmix": data.cutmix, "augment": data.augment}
    images["repeats"] = data.repeats > 1
    for name, value in images.items():
        if value:
            raise AttarError(f"data.{name} is for classified images, not for data={data.name}; leave it out")
    return {**defaults, **data.options}
