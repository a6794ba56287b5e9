"""`attar methods` lists the methods, explains one, or tries which of them run on two networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from attar.cli.arguments import Plugin
from attar.cli.entry import app, console


@app.command(short_help="List the methods, explain one, or find those for two networks.")
def methods(
    names: Annotated[
        list[str] | None,
        typer.Argument(help='A method, several joined ("kd+at"), or a pattern such as "*kd*".', metavar="[NAME]..."),
    ] = None,
    pair: Annotated[
        bool, typer.Option("--for", help="Which methods run on teacher=NAME student=NAME, and why others do not.")
    ] = False,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw its graph into this file.")] = None,
    plugins: Plugin = None,
) -> None:
    """List the methods by family, or explain one: its paper, its equation, its options and its graph of transfers.

    attar methods kd+at

    attar methods --for teacher=resnet56 student=resnet20
    """
    from attar.errors import AttarError
    from attar.methods import list_methods

    given = names or []
    if pair:
        return list_for(given)
    if len(given) > 1:
        raise AttarError(f"expected one method, got {len(given)}: {' '.join(given)}; join them with +, or use --for")
    if given and not any(mark in given[0] for mark in "*?["):
        return explain(given[0], svg)
    if given and not list_methods(given[0]):
        raise AttarError(f"no method matches {given[0]!r}; `attar methods` lists all")
    return print_families(list_methods(given[0] if given else "*"))


def print_families(names: Sequence[str]) -> None:
    """A table of methods for each family, and what its columns are."""
    from typing import get_args

    from attar.methods import method_info
    from attar.methods.registry import Family
    from attar.report.catalogue import costs_table
    from attar.report.method_records import ACCURACY

    for family in get_args(Family):
        if chosen := [name for name in names if method_info(name).family == family]:
            console.print(costs_table(chosen, title=f"{family} ({len(chosen)})"))
    console.print(
        f"step: its time, where a step of kd takes 1, {ACCURACY}; extra: parameters trained beside the student's; "
        "gain: published top-1 on CIFAR-100 over kd's, the mean of (so many) pairs. `attar methods NAME` explains one."
    )


def explain(name: str, svg: Path | None) -> None:
    """The record of one method, with its graph as text and, when svg is given, as a picture."""
    from attar.files import write_text
    from attar.report.drawing import svg as draw
    from attar.report.method_text import example_graph, explained

    console.print(explained(name, console.width), markup=False, soft_wrap=True, highlight=False)
    if svg:
        write_text(svg, draw(example_graph(name)))
        console.print(f"Drawing: {svg}", markup=False, soft_wrap=True)


def list_for(keys: Sequence[str]) -> None:
    """The methods that run on two networks, by family, and the others with the reason.

    Raises:
        AttarError: other keys than teacher, student, classes and image_size, or no student.
    """
    from attar.conformance.pairs import methods_for
    from attar.errors import AttarError, unknown
    from attar.methods import list_methods, method_info
    from attar.models import create_model
    from attar.report.tables import Table

    given = dict(key.partition("=")[::2] for key in keys)
    known = {"teacher": "", "student": "", "classes": "100", "image_size": "32"}
    for key in given:
        if key not in known:
            raise unknown("key", key, known)
    asked = {**known, **given}
    if not asked["student"]:
        raise AttarError("--for: give teacher=NAME student=NAME, for example teacher=resnet56 student=resnet20")
    try:
        classes, side = int(asked["classes"]), int(asked["image_size"])
    except ValueError:
        raise AttarError("--for: classes and image_size are whole numbers") from None
    nets = [
        create_model(asked[role], classes, image_size=side) if asked[role] else None for role in ("teacher", "student")
    ]
    assert nets[1] is not None
    found = dict(methods_for(nets[0], nets[1], list_methods(), (3, side, side), classes))
    print_families([name for name, reason in found.items() if not reason])
    rows = [[name, reason] for name, reason in found.items() if reason]
    if rows:
        console.print(Table(f"not for this pair ({len(rows)})", ["method", "why"], rows, texts=2))
    needing: dict[str, list[str]] = {}
    for name, _ in rows:
        needing.setdefault(method_info(name).runs_on, []).append(name)
    for pairs, names in needing.items():
        console.print(f"{', '.join(names)}: on {pairs}", highlight=False)
