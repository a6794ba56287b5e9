"""`attar list` shows what a recipe or a command can name, of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from attar.cli.arguments import Plugin
from attar.cli.entry import app, console

if TYPE_CHECKING:
    from attar.report.tables import Table


@app.command("list", short_help="List networks, data sets, formats, ...")
def listing(
    kind: Annotated[str | None, typer.Argument(help="What to list; none: the kinds there are.")] = None,
    pattern: Annotated[str, typer.Argument(help='Only such names: "resnet*".')] = "*",
    plugins: Plugin = None,
) -> None:
    """List what a recipe or a command can name: methods, networks, data sets, formats, optimisers and so on.

    attar list networks "resnet*"
    """
    from attar.errors import AttarError, unknown
    from attar.report.tables import Table

    if kind is None:
        rows = [[name, str(len(table("*").rows)), key] for name, (key, table) in KINDS.items()]
        console.print(Table("", ["kind", "known", "where it is named"], rows, texts=3))
        return
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    found = KINDS[kind][1](pattern)
    if not found.rows:
        raise AttarError(f"no {kind} match {pattern!r}; `attar list {kind}` shows all{_elsewhere(kind, pattern)}")
    console.print(found)
    if kind in NOTES:
        console.print(NOTES[kind], markup=False)


def _methods(pattern: str) -> Table:
    from attar.methods import list_methods
    from attar.report.catalogue import methods_table

    return methods_table(list_methods(pattern))


def _networks(pattern: str) -> Table:
    from attar.models import list_models, model_info

    infos = [model_info(name) for name in list_models(pattern)]
    return _table("network", ["family"], [[one.name, one.family, one.description] for one in infos])


def _datasets(pattern: str) -> Table:
    from fnmatch import fnmatch

    from attar.data import dataset_info, list_datasets
    from attar.tasks.registry import TASKS

    of_tasks = {name: f"of the task {task} (attar list tasks)" for task in TASKS for name in TASKS[task].data}
    known = {name: what for name, what in of_tasks.items() if fnmatch(name, pattern)}
    for one in map(dataset_info, list_datasets(pattern)):
        known[one.name] = f"{one.title} ({one.source})"
    return _table("data set", [], [[name, what] for name, what in sorted(known.items())])


def _augmentations(pattern: str) -> Table:
    from dataclasses import fields
    from fnmatch import fnmatch

    from attar.data import Augment
    from attar.data.transforms.registry import AUGMENTATIONS
    from attar.recipe import attribute_docs

    docs = attribute_docs(Augment)
    known = {field.name: docs[field.name].partition(";")[0] for field in fields(Augment) if field.name != "own"}
    known |= {name: AUGMENTATIONS[name].title for name in AUGMENTATIONS}
    return _table("augmentation", [], [[name, what] for name, what in known.items() if fnmatch(name, pattern)])


def _optimisers(pattern: str) -> Table:
    from attar.choices import OPTIMISERS

    infos = [OPTIMISERS[name] for name in OPTIMISERS.names(pattern)]
    rows = [[one.name, ", ".join(f"{key}={value}" for key, value in one.defaults.items()), one.title] for one in infos]
    return _table("optimiser", ["defaults"], rows)


def _schedules(pattern: str) -> Table:
    from attar.choices import SCHEDULES

    return _table("schedule", [], [[name, SCHEDULES[name].title] for name in SCHEDULES.names(pattern)])


def _formats(pattern: str) -> Table:
    from attar.deploy.formats import FORMATS

    infos = [FORMATS[name] for name in FORMATS.names(pattern)]
    rows = [[one.name, one.file, "yes" if one.default else "on request", one.title] for one in infos]
    return _table("format", ["file", "made"], rows)


def _tasks(pattern: str) -> Table:
    from attar.tasks import list_tasks
    from attar.tasks.registry import TASKS

    rows = [
        [name, ", ".join(TASKS[name].data) or "images", _first_line(TASKS[name].make)] for name in list_tasks(pattern)
    ]
    return _table("task", ["data"], rows)


def _metrics(pattern: str) -> Table:
    from attar.metrics.registry import METRICS

    infos = [METRICS[name] for name in METRICS.names(pattern)]
    return _table("metric", [], [[one.name, one.measure.note or one.measure.title] for one in infos])


def _trackers(pattern: str) -> Table:
    from attar.track import list_trackers, tracker_info

    infos = [tracker_info(name) for name in list_trackers(pattern)]
    return _table("tracker", ["extra"], [[one.name, one.extra, one.title] for one in infos])


def _elsewhere(kind: str, pattern: str) -> str:
    """Where else a pattern may match that matches no name of Attar's own."""
    if kind != "networks" or "/" in pattern:
        return ""
    return f'; those of timm and torchvision: "timm/{pattern}", "torchvision/{pattern}"'


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]


def _table(kind: str, between: list[str], rows: list[list[str]]) -> Table:
    """Names first, what they are last."""
    from attar.report.tables import Table

    columns = [kind, *between, "what"]
    return Table("", columns, rows, texts=len(columns))


# What a kind's table does not have.
NOTES = {
    "networks": "Also timm/NAME, torchvision/NAME, efficientnet_lite0 to 2 and pyg/NAME, each listed by such a pattern "
    'as "timm/*"; hf-config/MODEL, hf/FOLDER, onnx/FILE; and folders of finished runs. See docs/models.md.'
}
# Of each kind: where it is named, and its table for a pattern.
KINDS: dict[str, tuple[str, Callable[[str], Table]]] = {
    "methods": ("method=", _methods),
    "networks": ("teacher=, student=", _networks),
    "datasets": ("data=", _datasets),
    "augmentations": ("data.augment.NAME=", _augmentations),
    "tasks": ("task=", _tasks),
    "metrics": ("metrics=", _metrics),
    "optimisers": ("optim.name=", _optimisers),
    "schedules": ("optim.schedule=", _schedules),
    "trackers": ("track=", _trackers),
    "formats": ("attar export RUN FORMAT", _formats),
}
