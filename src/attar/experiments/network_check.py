"""Names, options and weights of a recipe's networks, checked before its samples are read."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path

from attar.deploy import load_card
from attar.errors import AttarError
from attar.experiments.build import FROM_TEACHER, teacher_parts
from attar.experiments.given_objects import GIVEN
from attar.models import create_model, model_info
from attar.models.libraries.create import PUBLISHED
from attar.models.libraries.names import CONFIGS, FILES, GRAPHS
from attar.models.weights import weights_file
from attar.recipe import ModelRecipe, Recipe
from attar.registry import check_types

# Classes and image size follow from the data; a network that does not take these is tried when they are read.
CLASSES, SIDE = 10, 64


def check_networks(recipe: Recipe) -> None:
    """Try what can be tried of the networks before the samples are read, which may take minutes.

    Raises:
        AttarError: a name or an option is unknown, or weights are missing, damaged or of another network.
    """
    teacher, student = recipe.teacher, recipe.student
    parts = [(name, weights, teacher) for name, weights in teacher_parts(teacher)] if teacher.name else []
    own = None if student.weights == FROM_TEACHER else student.weights
    for name, weights, section in [*parts, (student.name, own, student)]:
        if name and not name.startswith(GIVEN):
            check_network(name, weights, section)


def check_network(name: str, weights: str | None, section: ModelRecipe) -> None:
    """One network of a recipe's section; see `check_networks`."""
    check_types(f"network {name!r}", model_info(name).build, section.options)
    if weights is None or name.startswith((*FILES, CONFIGS, GRAPHS)):
        return
    changed = 0.0
    if weights != PUBLISHED:
        changed = weights_file(Path(weights).expanduser()).stat().st_mtime
    check_weights(name, weights, json.dumps(section.options, sort_keys=True, default=str), changed)


@cache
def check_weights(name: str, weights: str, options: str, changed: float) -> None:
    """Load weights into a network of some number of classes, for the images that they were trained on: where no JSON
    beside them says which, for colour images or for grey ones.

    Args:
        name: of the network.
        weights: a file, or "pretrained".
        options: of the network, as JSON.
        changed: when the file was written; a suite asks once for each.

    Raises:
        AttarError: they do not fit, although the network itself can be made.
    """
    given = json.loads(options)
    shape = recorded_shape(weights)
    if shape is None and model_info(name).family == "own":
        return  # a function's layers may follow the images' size, which is known when they are read
    kinds, side = ((3, 1), SIDE) if shape is None else ((shape[0],), shape[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same warnings come when the network is built
        try:
            create_model(name, CLASSES, kinds[0], side, **given)
        except (AttarError, TypeError):
            return
        errors = []
        for channels in kinds:
            try:
                create_model(name, CLASSES, channels, side, weights=weights, head="fresh", **given)
                return
            except AttarError as error:
                errors.append(error)
    raise errors[0]


def recorded_shape(weights: str) -> tuple[int, int, int] | None:
    """(C, H, W) of the images that weights of a run were trained on; None where nothing says."""
    try:
        shape = load_card(weights).get("image_shape")
    except AttarError:
        return None
    return None if shape is None else (shape[0], shape[1], shape[2])
