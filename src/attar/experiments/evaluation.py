"""Score a saved network of any kind on the test set of its own data, or on other data with its classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from attar.accel.runtime import find_device
from attar.batch import Batch
from attar.data import ImageSet, Splits, batches_of
from attar.deploy import load
from attar.deploy.scored_file import ScoredFile, open_scored
from attar.errors import AttarError
from attar.experiments.build import Parts, build, held_for, task_title
from attar.experiments.compared_network import compared_network
from attar.experiments.sets_of_networks import (
    check_same_classes,
    decoded,
    in_order_of,
    left_in_files,
    parts_of,
    whole_set,
)
from attar.metrics import Metrics
from attar.metrics.predictions import evaluate_each
from attar.recipe import ModelRecipe, read_recipe
from attar.report.evaluation import Evaluation

Shown = Callable[[Iterable[Batch]], Iterable[Batch]]


def evaluate_network(
    path: str | Path,
    data: Any = None,
    *,
    network: str | None = None,
    teacher: str | Path | None = None,
    device: str = "auto",
    keys: Mapping[str, Any] | None = None,
    shown: Shown = iter,
) -> Evaluation:
    """Score a saved network on a test set.

    Args:
        path: a run's folder, a .safetensors file with its JSON, an exported file, or weights beside `network`.
        data: a folder or the name of a data set; None: what the network was trained on. A folder without a test set is
            tested on as a whole, and may lack some of the network's classes.
        network: the name of the network that `path` holds plain weights of.
        teacher: another saved network to compare with (agreement, KL), of the same task and classes; its own order of
            the classes, normalisation and image size are kept.
        device: cpu, cuda, xpu, mps or auto; exported files run on the CPU.
        keys: of the recipe's data section; the set, the size and the normalisation default to what the network was
            trained with.
        shown: passes the batches on and shows how many are done.

    Raises:
        AttarError: a file is missing, damaged or not ours, or the data have classes that the network lacks.
    """
    where, second = find_device(device), load(teacher) if teacher else None
    given = {**({} if data is None else {"name": str(data)}), **(keys or {})}
    whole = data is not None
    opened, parts = _plain_weights(path, network, given, whole) if network else _with_facts(path, given, whole)
    test = parts.splits(parts.recipe.seed).test
    test = test if (keys or {}).get("in_memory") is False else decoded(test)
    if data is not None and isinstance(test, ImageSet):
        test = in_order_of(opened.card, opened.path, test)
    elif not network:
        check_same_classes(opened.card, opened.path, parts)
    other = None
    if second is not None and teacher is not None:
        other = compared_network(second, teacher, opened.card, test, task_title(parts.recipe))
    where = torch.device("cpu") if opened.path.suffix in (".onnx", ".pte") else where
    metrics: Metrics = parts.held.task.metrics()
    numbers: list[int] = []
    batches = _noted(shown(batches_of(test, where)), numbers)
    scores, each = evaluate_each(opened.net.to(where), batches, metrics, other.to(where) if other else None)
    files = test.path if isinstance(test, ImageSet) else None
    places = tuple(None if files is None else files(number) for number in numbers)
    return Evaluation(str(path), test.name, scores, metrics.scoring, tuple(test.classes), each, places, tuple(numbers))


def _noted(batches: Iterable[Batch], numbers: list[int]) -> Iterator[Batch]:
    """The batches, their samples' numbers in the set noted: those that cannot be read are left out."""
    for batch in batches:
        numbers += range(len(numbers), len(numbers) + len(batch)) if batch.index is None else batch.index.tolist()
        yield batch


def _with_facts(path: str | Path, keys: dict[str, Any], whole: bool) -> tuple[ScoredFile, Parts]:
    """A network that comes with its classes, and the data."""
    opened = open_scored(path)
    return opened, parts_of(opened.card, opened.run, keys, whole, test_alone=True)


def _plain_weights(path: str | Path, network: str, keys: dict[str, Any], whole: bool) -> tuple[ScoredFile, Parts]:
    """Plain weights of a network that is named, of the data's classes in their order."""
    if "name" not in keys:
        command = f"attar evaluate {quote(str(path))} DATA"
        raise AttarError(f"{path} has no record of what it was trained on; give the data: {command}")
    keys = left_in_files({"val_fraction": 0, **(whole_set(keys["name"]) if whole else {}), **keys})
    recipe = read_recipe(data=keys, student={"name": network})
    parts = Parts(recipe, held_for(recipe))
    splits = parts.splits(recipe.seed)
    if not isinstance(splits, Splits):
        raise AttarError("--network is for classifiers of images; give a run's folder")
    net = build(replace(ModelRecipe(network), weights=str(path)), splits, recipe.seed, "teacher").eval()
    return ScoredFile(net, splits.test.card, Path(path), Path(path).parent), parts
