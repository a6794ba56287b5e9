"""From files to a table, for tasks that are no image classification: teacher, student alone, student distilled.

    python benchmarks/tasks.py data=text data.root=FILE teacher=hf-config/gpt2 student=hf-config/gpt2 out=FOLDER ...

Arguments are keys of a recipe; `divergence=reverse` chooses how language models imitate each other. Each training
writes metrics.jsonl and a checkpoint into its folder and goes on from it when the command is repeated; results.json
and table.md stand beside them. docs/tasks shows the commands.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from attar.accel.runtime import Runtime, find_device
from attar.batch import Address
from attar.conformance import check
from attar.data import eval_batches, loader_for
from attar.deploy import save
from attar.errors import AttarError
from attar.files import write_json, write_text
from attar.methods import Method, create_method, method_info
from attar.metrics import score, summarise
from attar.models import create_model
from attar.recipe import ModelRecipe, Recipe, read_recipe, to_yaml
from attar.report.tables import Table
from attar.tasks import Task, create_task, task_name
from attar.train.loop import Places, fit
from attar.train.progress import Progress


def network(recipe: ModelRecipe, sets: Any, seed: int) -> nn.Module:
    """A network for the data, initialised from the seed, with the recipe's weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_model(
            recipe.name,
            num_classes=sets.num_classes,
            image_size=sets.train.shape[-1],
            weights=recipe.weights,
            **recipe.options,
        )


def train(method: Method, sets: Any, recipe: Recipe, folder: Path, title: str) -> None:
    """Train in a folder, from its checkpoint where there is one, and save what is deployed."""
    folder.mkdir(parents=True, exist_ok=True)
    device = find_device(recipe.device)
    runtime = Runtime(device, "float32" if recipe.precision == "auto" else recipe.precision, "")
    method.to(device)
    loader = loader_for(sets.train, recipe.batch_size, seed=recipe.seed, device=device, epochs=recipe.epochs)
    check(method, next(loader.epoch(0)))
    with Progress(Console(), title, recipe.epochs, len(loader), recipe.batch_size) as progress:
        fit(method, loader, sets.val, recipe, runtime, Places(folder), progress)
    save(method.deployed(), folder / "student.safetensors", data=recipe.data.name, seed=recipe.seed)


def measured(net: nn.Module, sets: Any, task: Task, recipe: Recipe, teacher: nn.Module | None) -> dict[str, float]:
    """Scores on the test set."""
    device = find_device(recipe.device)
    return score(net, eval_batches(sets.test, recipe.batch_size, device), task.metrics(), teacher)


def run(recipe: Recipe, task: Task) -> Table:
    """The whole comparison, over the recipe's seeds."""
    if not recipe.out:
        raise AttarError("give out=FOLDER")
    out, results = Path(recipe.out), {"teacher": [], "alone": [], "distilled": []}
    sets = task.load(recipe)
    for note in getattr(sets, "notes", ()):
        print(note)
    teacher = network(recipe.teacher, sets, recipe.seed)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "recipe.yaml", to_yaml(recipe))
    if not recipe.teacher.weights and not recipe.teacher.name.startswith("hf/"):
        first = replace(recipe, epochs=recipe.teacher.epochs or recipe.epochs)
        train(create_method("supervised", student=teacher, task=task), sets, first, out / "teacher", "teacher")
    teacher.to(find_device(recipe.device))
    results["teacher"].append(measured(teacher, sets, task, recipe, None))
    takes_teacher = "+" in recipe.method.name or method_info(recipe.method.name).takes_teacher
    for seed in range(recipe.seed, recipe.seed + recipe.seeds):
        own = replace(recipe, seed=seed)
        sets = task.load(own)
        for kind in ("alone", "distilled"):
            student = network(recipe.student, sets, seed)
            name = "supervised" if kind == "alone" else recipe.method.name
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(Address(seed).generator("method").initial_seed())
                method = create_method(
                    name,
                    student=student,
                    teacher=teacher if kind == "distilled" and takes_teacher else None,
                    task=task,
                    **({} if kind == "alone" else recipe.method.options),
                )
            train(method, sets, own, out / f"seed{seed}" / kind, f"{kind} seed {seed}")
            results[kind].append(measured(method.deployed(), sets, task, recipe, teacher))
            write_json(out / "results.json", results)
    sizes = {"teacher": size(teacher), "alone": size(student), "distilled": size(student)}
    table = table_of(results, sizes, task, len(sets.test))
    write_text(out / "table.md", table.markdown() + "\n")
    return table


def size(net: nn.Module) -> int:
    """How many parameters a network has."""
    return sum(parameter.numel() for parameter in net.parameters())


def table_of(results: dict[str, list[dict[str, float]]], sizes: dict[str, int], task: Task, count: int) -> Table:
    """Mean and standard deviation of every measure that was computed."""
    measures = [one for one in task.metrics().measures if any(one.name in row for row in results["distilled"])]
    body = []
    for name, rows in results.items():
        cells = []
        for one in measures:
            found = [one.scale * row[one.name] for row in rows if one.name in row]
            mean = summarise(found) if found else None
            text = "" if mean is None else f"{mean.mean:.{one.digits}f}"
            cells.append(text + (f" ± {mean.std:.{one.digits}f}" if mean is not None and mean.std is not None else ""))
        body.append([name, f"{sizes[name]:,}", *cells])
    title = f"Test set ({count:,} samples, {len(results['distilled'])} seeds)"
    return Table(title, ["", "parameters", *(one.title for one in measures)], body)


def main(words: list[str]) -> None:
    """The command."""
    settings = dict(word.split("=", 1) for word in words if word.startswith("divergence="))
    recipe = read_recipe(overrides=[word for word in words if not word.startswith("divergence=")])
    table = run(recipe, create_task(task_name(recipe.task, recipe.data.name), **settings))
    Console().print(table)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AttarError as error:
        sys.exit(f"error: {error}")
