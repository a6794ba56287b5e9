"""The one-call interface: `attar.distill(...)` and its siblings take what a recipe says, as keyword arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from attar.data import eval_batches
from attar.deploy import load, load_card
from attar.errors import AttarError
from attar.measure import Scores
from attar.measure import evaluate as score
from attar.recipe import Recipe, read_recipe
from attar.report.summary import Summary
from attar.train import job
from attar.train.build import load_splits, take_objects
from attar.train.run import EVAL_BATCH
from attar.train.runtime import find_device


def distill(recipe: str | Path | None = None, *, console: Console | None = None, **values: Any) -> Summary:
    """Distil a small network from a large one.

    Args:
        recipe: a YAML file, or the name of a packaged recipe; the keywords below override it.
        console: where progress goes; by default the terminal.
        values: any key of the recipe: teacher, student, data, method, epochs, seeds, out, optim={...}, ... Teacher (one
            or a list) and student may be networks, and data a data set of (image, label) pairs, a (train, test) pair of
            them or `Splits`; such a run cannot be resumed from its folder.

    Returns:
        The summary: tables, the gap between distilled and alone, and the run's folder.

    Raises:
        AttarError: something in the recipe is wrong; nothing has been written then.
    """
    values, given = take_objects(values)
    return job.start(read_recipe(recipe, **values), console, given)


def train_model(recipe: str | Path | None = None, *, console: Console | None = None, **values: Any) -> Summary:
    """Train a network on the labels alone: a teacher, or a baseline. Arguments as in `distill`, without a teacher."""
    values, given = take_objects(values)
    return job.start(plain(read_recipe(recipe, **values)), console, given)


def plain(recipe: Recipe) -> Recipe:
    """The recipe without distillation."""
    if recipe.teacher.name:
        raise AttarError("attar train has no teacher; leave teacher= out, or use attar distill")
    recipe.method.name, recipe.method.options, recipe.alone = "supervised", {}, "skip"
    return recipe


def resume(folder: str | Path, *, console: Console | None = None) -> Summary:
    """Go on with an interrupted run; a finished one only prints its table again."""
    return job.resume(folder, console)


def evaluate(path: str | Path, *, teacher: str | Path | None = None, device: str = "auto", **data: Any) -> Scores:
    """Score a saved network on a test set.

    Args:
        path: a run's folder or a .safetensors file with its JSON.
        teacher: another saved network to compare with (agreement, KL).
        device: cpu, cuda or auto.
        data: name, root and the other keys of the recipe's data section; the set, the size and the normalisation
            default to what it was trained with.
    """
    file = Path(path) / "student.safetensors" if Path(path).is_dir() else Path(path)
    net, card = load(path), load_card(file)
    where = find_device(device)
    if missing := [key for key in ("data", "classes", "image_shape", "mean", "std") if key not in card]:
        raise AttarError(f"{file.with_suffix('.json')} does not say its {missing[0]}; it was not written by a run")
    recipe = read_recipe(data={**_data_of(card, Path(path), data.get("name")), **data})
    test = load_splits(recipe, recipe.seed).test
    if list(test.classes) != list(card["classes"]):
        raise AttarError(
            f"{file} knows {len(card['classes'])} classes ({card['data']}), {recipe.data.name} has {len(test.classes)} "
            "other ones; give the data it was trained on"
        )
    other = load(teacher).to(where) if teacher else None
    return score(net.to(where), eval_batches(test, EVAL_BATCH, where), teacher=other)


def _data_of(card: dict[str, Any], path: Path, other: str | None) -> dict[str, Any]:
    """The images as the network was trained with: size, normalisation, and the set unless another is named."""
    seen = {"image_size": card["image_shape"][-1], "mean": card["mean"], "std": card["std"], "val_fraction": 0}
    if other is not None:
        return {"name": other, **seen}
    same = {"name": card["data"], **card.get("data_options", {}), **seen}
    if (path / "recipe.yaml").is_file():
        same["root"] = read_recipe(path / "recipe.yaml").data.root
    return same
