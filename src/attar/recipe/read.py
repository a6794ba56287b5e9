"""A recipe from a file, overrides and keyword values."""

from __future__ import annotations

import copy
import dataclasses
import functools
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attar import recipes
from attar.errors import AttarError
from attar.recipe.checks import check_keys, check_sizes, check_values
from attar.recipe.layers import drop_old_options, normalise, optimiser_defaults, together
from attar.recipe.schema import Recipe
from attar.recipe.texts import at_home, load_yaml, one_line


def read_recipe(file: str | Path | None = None, overrides: list[str] | tuple[str, ...] = (), **values: Any) -> Recipe:
    """A recipe from a YAML file, dotted overrides ("optim.lr=0.1") and keyword values, later ones winning.

    Raises:
        AttarError: the file is missing or is no YAML, a key is unknown, or a value has the wrong type or range.

    >>> recipe = read_recipe(overrides=["teacher=resnet56", "student=resnet20", "method.temperature=2"])
    >>> recipe.teacher.name, recipe.method.options
    ('resnet56', {'temperature': 2})
    """
    merged = copy.deepcopy(_defaults())
    try:
        for layer in filter(None, [load(file) if file else {}, together(overrides), values]):
            check_keys(layer := at_home(normalise(layer)))
            check_sizes(layer)
            drop_old_options(merged, layer)
            # Nobody else holds `merged`, so it need not be copied.
            merged = OmegaConf.unsafe_merge(merged, optimiser_defaults(merged.optim.name, layer), layer)
        recipe = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError, TypeError, OverflowError) as error:
        # Our own messages are one line already; OmegaConf's come with a trailer.
        raise error if isinstance(error, AttarError) else AttarError(one_line(error)) from None
    assert isinstance(recipe, Recipe)
    check_values(recipe)
    return recipe


@functools.cache
def _defaults() -> Any:
    # Read once from the dataclasses: a copy costs a third of that.
    return OmegaConf.structured(Recipe())


def given_keys(file: str | Path | None = None, overrides: list[str] | tuple[str, ...] = (), **values: Any) -> set[str]:
    """The dotted keys that a recipe gives; arguments as for `read_recipe`.

    >>> sorted(given_keys(overrides=["student=resnet8", "optim.lr=0.1"]))
    ['optim.lr', 'optim.range_test', 'student.name']
    """
    layers = [*([load(file)] if file else []), together(overrides), values]
    return {key for layer in layers for key in _dotted(normalise(layer))}


def _dotted(tree: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in tree.items():
        found += _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return found


def to_yaml(recipe: Recipe) -> str:
    """The whole recipe as YAML, every default spelled out."""
    return OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(recipe)))


def load(file: str | Path) -> dict[str, Any]:
    # A bare name is a packaged recipe.
    return load_yaml(recipes.path(str(file)) if not Path(file).suffix else Path(file), "recipe")
