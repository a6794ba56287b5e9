"""Chains in a suite: the runs before a chain's last network, each done once for all chains that share it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from attar.experiments.chain import WEIGHTS, chain_links, check_chain, first_weights
from attar.experiments.layout import teacher_recipe
from attar.recipe import Recipe, read_recipe, to_yaml

# Where the links go, in the folder of a suite.
LINKS = "links"
# Of one run: its folder below the suite's, and its recipe's values.
Link = tuple[Path, dict[str, Any]]


def suite_links(values: dict[str, Any], folder: Path) -> tuple[list[Link], dict[str, Any]]:
    """The runs before the last network of a chain, in its order, and the values of the last one.

    Runs that several chains of a suite share have one folder. A first network without weights is a run of its own,
    trained with the labels alone as any teacher is.

    Args:
        values: the recipe's values, as `read_recipe` takes them, with `chain`.
        folder: of the suite.

    Raises:
        AttarError: the chain cannot run.
    """
    recipe, whole = replace(read_recipe(**values), out=None), folder.resolve()
    check_chain(recipe)
    found: list[Recipe] = []

    def place(link: Recipe, number: int) -> Path:
        # The same wherever the suite's folder is, and for every seed.
        of_all = replace(link, out=None, seed=0, data=replace(link.data, split_seed=None))
        text = to_yaml(of_all).replace(str(whole), "")
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        return whole / LINKS / f"{link.student.name}-{link.method.name}-{digest}" / f"seed{link.seed}"

    if not first_weights(recipe):
        teacher = teacher_recipe(next(chain_links(recipe, place)), 0)
        found.append(replace(teacher, out=str(place(teacher, 0))))
        kept = replace(recipe.teacher, weights=str(place(teacher, 0) / WEIGHTS), epochs=None, train_size=None)
        recipe = replace(recipe, teacher=kept)
    found += chain_links(recipe, place)
    links = [(Path(str(link.out)).relative_to(whole), values_of(link)) for link in found]
    return links[:-1], links[-1][1]


def values_of(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the values that make it, without the folder."""
    values: dict[str, Any] = yaml.safe_load(to_yaml(recipe))
    return {key: value for key, value in values.items() if key != "out"}


def without_weights(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a run without its teachers' weights, with which it is checked before they are there."""
    teacher = values.get("teacher")
    return {**values, "teacher": {**teacher, "weights": None}} if isinstance(teacher, dict) else values
