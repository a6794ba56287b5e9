"""`attar methods` lists the methods, or explains one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attar.cli.arguments import Plugin
from attar.cli.entry import app, console


@app.command(short_help="List the methods, or explain one.")
def methods(
    name: Annotated[str | None, typer.Argument(help='A method, or a pattern such as "*kd*".')] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw its graph into this file.")] = None,
    plugins: Plugin = None,
) -> None:
    """List the methods, or explain one: its paper, its options and its graph of transfers."""
    from attar.methods import list_methods
    from attar.report.catalogue import methods_table

    if name and not any(mark in name for mark in "*?["):
        return explain(name, svg)
    console.print(methods_table(list_methods(name or "*")))
    return None


def explain(name: str, svg: Path | None) -> None:
    """The record of one method, with its graph as text and, when svg is given, as a picture."""
    import inspect

    from attar.files import write_text
    from attar.methods import create_method, method_info
    from attar.models import create_model
    from attar.report.drawing import svg as draw

    info = method_info(name)
    console.print(f"{info.name}: {info.title}" + (f" ({info.paper}, {info.year})" if info.paper else ""), style="bold")
    console.print(inspect.getdoc(info.cls) or "", markup=False)
    for option, default in info.defaults.items():
        console.print(f"  method.{option}={default}", markup=False)
    teacher = create_model("resnet14") if info.takes_teacher else None
    graph = create_method(name, teacher=teacher, student=create_model("resnet8")).graph
    console.print(graph.mermaid(), markup=False, soft_wrap=True)
    if svg:
        write_text(svg, draw(graph))
