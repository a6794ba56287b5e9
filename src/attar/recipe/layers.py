"""Values of several layers: bare names become sections, and what belongs to a name goes with it."""

from __future__ import annotations

import dataclasses
from typing import Any

from omegaconf import OmegaConf

from attar.choices import OPTIMISERS
from attar.errors import AttarError
from attar.recipe.checks import check_keys, shown
from attar.recipe.schema import NAMED, OptimRecipe, Recipe
from attar.recipe.texts import parse

# Options of every method, which may stand without the method's section.
OF_EDGES = ("weights", "logit_edges", "layer_schedule", "teachers")


def with_found_rate(recipe: Recipe, begun: Recipe) -> Recipe:
    """A recipe of optim.lr=auto as a run that has begun with it keeps it: with the rate that it found.

    >>> from attar.recipe import OptimRecipe
    >>> with_found_rate(Recipe(optim=OptimRecipe(range_test=True)), Recipe(optim=OptimRecipe(lr=0.03))).optim.lr
    0.03
    """
    if not recipe.optim.range_test:
        return recipe
    found = dataclasses.replace(recipe.optim, lr=begun.optim.lr, range_test=begun.optim.range_test)
    return dataclasses.replace(recipe, optim=found)


def normalise(tree: dict[str, Any]) -> dict[str, Any]:
    """Bare names become sections or lists, and keys that a section does not know become its options."""
    tree = dict(tree)
    if of_edges := {key: tree.pop(key) for key in OF_EDGES if key in tree}:
        method = tree.get("method") or {}
        named = {"name": method} if isinstance(method, str) else dict(method)
        tree["method"] = {**named, **of_edges}
    for key in ("track", "metrics", "export", "chain"):
        if isinstance(tree.get(key), str):
            tree[key] = [name.strip() for name in tree[key].split(",") if name.strip()]
    if isinstance(optim := tree.get("optim"), dict) and "lr" in optim and "range_test" not in optim:
        found = optim["lr"] == "auto"
        kept = {key: value for key, value in optim.items() if not (found and key == "lr")}
        tree["optim"] = {**kept, "range_test": found}
    schema = {f.name: f for f in dataclasses.fields(Recipe)}
    for section in NAMED:
        if section not in tree:
            continue
        given = tree[section]
        if given is None or isinstance(given, str):
            tree[section] = {"name": given or ""}
            continue
        if not isinstance(given, dict):
            several = ", several networks as teacher=A,B" if section == "teacher" else ""
            raise AttarError(f"{section}: expected a name or a section of keys{several}, got {shown(given)}")
        known = {f.name for f in dataclasses.fields(schema[section].default_factory)}  # type: ignore[arg-type]
        # Only methods, tasks and data sets have settings of their own that read better without .options.
        extra = {k: v for k, v in given.items() if k not in known} if section in ("method", "task", "data") else {}
        if extra:
            kept = {k: v for k, v in given.items() if k in known}
            options = kept.get("options") or {}
            if not isinstance(options, dict):
                raise AttarError(f"{section}.options: expected a section of keys, got a {type(options).__name__}")
            tree[section] = {**kept, "options": {**options, **extra}}
    return tree


def optimiser_defaults(before: str, layer: dict[str, Any]) -> dict[str, Any]:
    """A layer with the defaults of the optimiser that another layer names; empty where it names no other one.

    Raises:
        AttarError: that optimiser has no learning rate of its own, and the layer gives none.
    """
    optim = layer.get("optim") or {}
    name = optim.get("name")
    if not isinstance(name, str) or name == before or name not in OPTIMISERS:
        return {}
    defaults = dict(OPTIMISERS[name].defaults)
    if "lr" not in {**defaults, **optim}:
        raise AttarError(f"optimiser {name!r} has no learning rate of its own; give optim.lr=")
    return {"optim": defaults}


def layered(*trees: dict[str, Any]) -> dict[str, Any]:
    """Recipe values of several layers as one tree, later ones winning.

    What belongs to a name goes with it: a layer that names another method, network, data set or optimiser begins
    without the options, the weights and the learning rate of the one before.

    Raises:
        AttarError: a section is no section.
    """
    merged: dict[str, Any] = {}
    for tree in map(normalise, trees):
        for section in (*NAMED, "optim"):
            earlier, later = merged.get(section) or {}, tree.get(section) or {}
            if not isinstance(later, dict):
                raise AttarError(f"{section}: expected a section of keys, got {shown(later)}")
            before = earlier.get("name", OptimRecipe.name if section == "optim" else None)
            if before is not None and later.get("name", before) != before:
                own = ("lr", "weight_decay") if section == "optim" else ("options", "weights")
                merged[section] = {key: value for key, value in earlier.items() if key not in own}
        merged = OmegaConf.to_container(OmegaConf.merge(merged, tree))  # type: ignore[assignment]
    return merged


def drop_old_options(merged: Any, layer: dict[str, Any]) -> None:
    """Options and weights belong to a name: a layer that names another method or network begins without them."""
    for section in NAMED:
        name = layer.get(section, {}).get("name")
        if name is not None and name != merged[section].name:
            merged[section].options = {}
            if "weights" in merged[section]:
                merged[section].weights = None


def together(overrides: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """All overrides as one layer, so that their order only matters where they speak of the same key."""
    trees = [normalise(parse(override)) for override in overrides]
    for tree in trees:
        check_keys(tree)
    return OmegaConf.to_container(OmegaConf.merge(*trees)) if trees else {}  # type: ignore[return-value]
