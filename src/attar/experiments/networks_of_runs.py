"""teacher=RUN and student=RUN: the network that an earlier run deployed, in place of a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from attar.deploy import load
from attar.deploy.trained_run import find_trained
from attar.errors import AttarError
from attar.models import list_models
from attar.models.libraries.configurations import named_configuration
from attar.models.libraries.names import outside
from attar.profiling import Suggestion, suggest
from attar.recipe import ModelRecipe, Recipe, listed
from attar.records import damaged

# Parts of a spec that are the name or follow from the data.
FROM_DATA = ("kind", "name", "model", "num_classes", "in_channels", "image_size")


def with_networks_of_runs(recipe: Recipe) -> Recipe:
    """The recipe with the folders and .safetensors files of runs replaced by network, options and weights.

    Raises:
        AttarError: a folder is missing or holds no finished run, weights or options are given beside it, or teachers of
            several runs have different options.
    """
    return replace(recipe, teacher=_replaced(recipe.teacher, "teacher"), student=_replaced(recipe.student, "student"))


def suggest_for(teacher: str | nn.Module, **options: Any) -> Suggestion:
    """`attar.profiling.suggest` for a name or a network, or for a run, whose classes and images it takes.

    Raises:
        AttarError: as `suggest`; or a run whose samples are no images of a square.
    """
    if not isinstance(teacher, str) or not _is_run(teacher):
        return suggest(teacher, **options)
    trained = find_trained(Path(teacher).expanduser())
    shape, classes = trained.card.get("image_shape"), trained.card.get("classes")
    if not shape or not classes or shape[1] != shape[2]:
        raise AttarError(f"{teacher}: students are suggested for classifiers of square images; name a network")
    own = {"classes": len(classes), "channels": shape[0], "image_size": shape[1]}
    found = suggest(load(trained.weights), **{**own, **options})
    return replace(found, teacher=replace(found.teacher, name=teacher))


def _replaced(model: Any, role: str) -> Any:
    """A network's section of the recipe, its runs replaced."""
    names = [name for name in listed(model.name) if name]
    for name in names:
        if _is_lost(name):
            raise AttarError(f"{role}={name}: there is no such folder; give that of a run, or a network's name")
    runs = [name for name in names if _is_run(name)]
    if not runs:
        return model
    if len(runs) != len(names):
        raise AttarError(f"{role}={model.name}: give runs or names of networks, not both")
    if model.weights or model.options:
        key = "weights" if model.weights else "options"
        raise AttarError(f"{role}={model.name} brings its own {key}; leave {role}.{key} out")
    found = [_model_of(name, role) for name in runs]
    if any(one.options != found[0].options for one in found):
        raise AttarError(f"{role}={model.name}: the runs' networks have different options; give runs of like networks")
    return replace(
        model,
        name=",".join(one.name for one in found),
        weights=",".join(str(one.weights) for one in found),
        options=found[0].options,
    )


def _is_run(name: str) -> bool:
    """Whether a name is a path, not a network's; a network's name wins."""
    path = Path(name).expanduser()
    return name not in list_models() and (path.is_dir() or (path.suffix == ".safetensors" and path.is_file()))


def _is_lost(name: str) -> bool:
    """Whether a name is a path at which nothing is."""
    return "/" in name and not outside(name) and name not in list_models() and not Path(name).expanduser().exists()


def _model_of(name: str, role: str) -> ModelRecipe:
    """What `build` needs to make a run's network again."""
    trained = find_trained(Path(name).expanduser())
    try:
        found = _named(trained.card.get("spec") or {})
    except (KeyError, TypeError) as error:
        card = trained.weights.with_suffix(".json")
        raise damaged(card, f"its network's description lacks {error}", "train or export it again") from None
    if found is None:
        raise AttarError(
            f"{role}={name}: its network has layers that no name stands for; load it in Python with attar.load and "
            f"give it as {role}="
        )
    return ModelRecipe(found[0], str(trained.weights.resolve()), found[1])


def _named(spec: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The name and options that make a network of this spec; None where there are none.

    >>> _named({"name": "resnet8", "num_classes": 10, "in_channels": 1, "image_size": 8, "widths": [4, 8, 16, 32]})
    ('resnet8', {'widths': [4, 8, 16, 32]})
    """
    kind = spec.get("kind", "model")
    if kind == "headless":
        return _named(spec["network"])
    if kind == "adapted":
        inner = _named(spec["network"])
        size = (
            {} if spec["network"]["image_size"] == spec["image_size"] else {"input_size": spec["network"]["image_size"]}
        )
        return None if inner is None else (inner[0], {**inner[1], **size})
    if kind in ("causal_lm", "text_classifier"):
        return named_configuration(spec["config"])
    if kind not in ("model", "library", "graph") or not isinstance(name := spec.get("name", spec.get("model")), str):
        return None
    return name, {key: value for key, value in spec.items() if key not in FROM_DATA}
