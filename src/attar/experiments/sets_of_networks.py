"""The task and the data of a saved network: as it was trained with them, or others with its classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attar.data import FileSet, ImageSet, Samples, list_datasets
from attar.data.file_set import into_memory
from attar.data.registry import DATASETS
from attar.data.sources.from_files import MEMORY_LIMIT
from attar.errors import AttarError, UnknownNameError
from attar.experiments.build import Parts, held_for
from attar.experiments.given_objects import GIVEN, Given
from attar.plugins import names_function, naming_imports
from attar.recipe import Recipe, read_recipe
from attar.sizes import shortest
from attar.tasks import data_names


def parts_of(card: Mapping[str, Any], path: Path, data: Any, whole: bool = False, test_alone: bool = False) -> Parts:
    """The task and the data of a saved network, unless keys name others.

    Args:
        card: the JSON beside its weights.
        path: where its run lies.
        data: keys of the recipe's data section, or an object in its place.
        whole: whether other data without a test set are tested on as a whole.
        test_alone: whether the training images are not looked at, and need not be read.

    Raises:
        AttarError: the data are missing, or the task was an object.
    """
    keys = data if isinstance(data, dict) else {}
    with naming_imports(path):
        named = str(card.get("task") or "")
        if named.startswith(GIVEN):
            raise AttarError(f"this run's task was an object in Python ({named}), so its folder cannot rebuild it")
        task = {"name": named, "options": card.get("task_options") or {}}
        section = _data_keys(card, path, keys, whole)
        recipe = read_recipe(data=left_in_files(section) if test_alone else section, task=task)
        parts = Parts(recipe, held_for(recipe), Given(data=None if isinstance(data, dict) else data))
        parts.splits(recipe.seed)
    return parts


def check_same_classes(card: Mapping[str, Any], file: Path, parts: Parts) -> None:
    """Raise where data have other classes than a network, or ask for another number of outputs."""
    splits, name = parts.splits(parts.recipe.seed), parts.recipe.data.name
    if not splits.num_classes:
        return
    if list(splits.classes) != list(card["classes"]):
        raise AttarError(
            f"{file} has {len(card['classes'])} classes ({card['data']}), {name} has "
            f"{splits.num_classes} other ones; give the data it was trained on"
        )
    if splits.num_classes != card.get("outputs", splits.num_classes):
        raise AttarError(
            f"{file} has {card['outputs']} outputs, {name} asks for {splits.num_classes}; give data like "
            "those it was trained on (the tokenizer of a language model)"
        )


def in_order_of(card: Mapping[str, Any], file: Path, images: ImageSet) -> ImageSet:
    """Images with the class numbers of a network, whose classes may be more than theirs or in another order.

    Raises:
        AttarError: the images have a class that the network lacks.
    """
    theirs = [str(name) for name in card["classes"]]
    if not theirs or theirs == list(images.classes):
        return images
    if lacking := [name for name in images.classes if name not in theirs]:
        raise AttarError(
            f"{file} has no class {lacking[0]!r}, which {images.name} has; its {len(theirs)} "
            f"classes are {', '.join(theirs[:5])}{', ...' if len(theirs) > 5 else ''}"
        )
    return images.numbered_as(theirs)


def _data_keys(card: Mapping[str, Any], path: Path, keys: dict[str, Any], whole: bool) -> dict[str, Any]:
    """The data section of a saved network with these changes; a folder that was named by its path has no other root."""
    changes = dict(keys)
    same = _data_of(card, path, changes.get("name"), whole)
    if same.get("root") and _same_place(str(changes.get("name")), same):
        del changes["name"]  # the folder that data=folder data.root=FOLDER named
    known = same["name"] in (*list_datasets(), *data_names()) or same["name"].startswith(GIVEN)
    known = known or names_function(same["name"])
    if "name" not in changes and not known:
        name = str(changes.pop("root", same["name"]))
        if not Path(name).expanduser().is_dir():
            raise UnknownNameError(f"the images are not in {name}; give data.root=FOLDER, where they are now")
        same = {**same, "name": name, "root": None}
    return {**same, **changes}


def _data_of(card: Mapping[str, Any], path: Path, other: str | None, whole: bool) -> dict[str, Any]:
    """The images as the network was trained with: size, normalisation, and the set unless another is named."""
    seen: dict[str, Any] = {"val_fraction": 0}
    if "image_shape" in card:
        seen |= {"mean": card["mean"], "std": card["std"], "image_size": shortest(card["image_shape"][1:])}
    same = {"name": card["data"], **card.get("data_options", {}), **seen}
    if (recipe := recipe_of(card, path)) is not None:
        same["root"] = recipe.data.root
    if other is None or _same_place(other, same):
        return same
    read = {"resize_size": card["data_options"]["resize_size"]} if "resize_size" in card.get("data_options", {}) else {}
    read = read if "resize_size" in options_of(other) else {}
    return {"name": other, **seen, **read, **(whole_set(other) if whole else {})}


def recipe_of(card: Mapping[str, Any], path: Path) -> Recipe | None:
    """The recipe of the run that a network lies in; None where there is none, or its data are not the network's.

    Args:
        card: the JSON beside the network's weights.
        path: the folder that they lie in; a seed's lies in its job's, and so do alone/, teacher/ and export/.
    """
    path = path.absolute()
    place = next((one for one in (path, *path.parents[:2]) if (one / "recipe.yaml").is_file()), None)
    recipe = read_recipe(place / "recipe.yaml") if place else None
    return recipe if recipe and recipe.data.name == card["data"] else None


def options_of(name: str) -> tuple[str, ...]:
    """The settings of a data set, or of a folder of images."""
    return () if name in data_names() else DATASETS[name if name in DATASETS else "folder"].options


def whole_set(name: str) -> dict[str, Any]:
    """The key by which data without a test set are tested on as a whole."""
    return {"test_fraction": 1} if "test_fraction" in options_of(name) else {}


def left_in_files(keys: dict[str, Any]) -> dict[str, Any]:
    """A data section whose images stay in their files until they are asked for.

    Not where unreadable images are left out: which ones they are decides what a split without a test folder is.
    """
    name = str(keys["name"])
    if names_function(name) or name.startswith(GIVEN) or "in_memory" not in options_of(name):
        return keys
    return keys if keys.get("skip_unreadable") else {"in_memory": False, **keys}


def decoded(images: Samples) -> Samples:
    """Images in memory, where they fit; other samples as they are.

    Raises:
        AttarError: an image cannot be read.
    """
    height, width = images.stored_size if isinstance(images, FileSet) else (0, 0)
    fits = 3 * height * width * len(images) <= MEMORY_LIMIT
    return into_memory(images, skip=False)[0] if isinstance(images, FileSet) and fits else images


def _same_place(other: str, same: Mapping[str, Any]) -> bool:
    """Whether a name is that of the data a network was trained on, or the path of their folder."""
    if other == same["name"] and not Path(other).is_dir():
        return True
    place = Path(same.get("root") or same["name"]).expanduser()
    return Path(other).is_dir() and place.is_dir() and place.resolve() == Path(other).expanduser().resolve()
