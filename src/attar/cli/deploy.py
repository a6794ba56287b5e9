"""`attar export` writes the files of a student, `predict` runs one on files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attar.cli.arguments import Plugin
from attar.cli.entry import app, console, fail, loading
from attar.errors import AttarError


@app.command(short_help="Write a student as files for deployment, checked.")
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a .safetensors file with its JSON.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FORMAT]... [KEY=VALUE]...",
            help="Formats of `attar list formats`; none: those made by default. Keys: out, calibration (images), "
            "license, data.root and the other keys of data.",
        ),
    ] = None,
    bake: Annotated[bool, typer.Option("--bake", help="Graphs take uint8 pixels and normalise them.")] = False,
    within: Annotated[
        float | None, typer.Option(help="Points that eight bits may lose; trained until they do.")
    ] = None,
    temperature: Annotated[
        bool, typer.Option("--temperature", help="Graphs divide logits by a temperature fitted on validation images.")
    ] = False,
    plugins: Plugin = None,
) -> None:
    """Write a finished run's student as files for deployment.

    Each file is read again, compared with the student on the whole test set, scored and timed.

    The folder also gets the measurements (export.json, export.md) and a model card (README.md).

    attar export runs/kd-resnet56-resnet20-cifar100 onnx onnx-int8 data.root=data
    """
    with loading():
        from attar import api
        from attar.report.exports import export_notes, export_table

    given = arguments or []
    keys = export_keys([one for one in given if "=" in one])
    with console.status("loading") as status:
        done = api.export(
            run,
            [one for one in given if "=" not in one],
            bake=bake,
            within=within,
            temperature=temperature,
            progress=lambda name: status.update(f"{name}: writing and checking"),
            **keys,
        )
    if done.files:
        console.print(export_table(done))
        console.print(export_notes(done), markup=False)
        console.print(f"Files and model card: {done.folder}", markup=False, soft_wrap=True)
    if done.failures:
        fail("\nattar: ".join(done.failures.values()))


def export_keys(pairs: list[str]) -> dict[str, Any]:
    """key=value arguments as the keywords of `attar.export`."""
    from attar.errors import unknown
    from attar.recipe import parse

    known = ("out", "calibration", "license", "data")
    keys: dict[str, Any] = {}
    for pair in pairs:
        for key, value in parse(pair).items():
            if key not in known:
                raise unknown("key", key, known)
            if key == "data" and not isinstance(value, dict):
                value = {"name": value}
            keys[key] = {**keys.get(key, {}), **value} if key == "data" else value
    if not isinstance(keys.get("calibration", 1), int):
        raise AttarError(f"calibration must be a number of images, got {keys['calibration']!r}")
    return {key: str(value) if key in ("out", "license") else value for key, value in keys.items()}


@app.command(short_help="Label images, continue texts, count.")
def predict(
    model: Annotated[Path, typer.Argument(help="A run's folder, an export's folder, or an ONNX file of it.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Image files, or folders of them; texts; arrays (.npz).")
    ],
    top: Annotated[int, typer.Option(help="How many classes to print per image.")] = 3,
    tokens: Annotated[int, typer.Option(help="How many tokens a language model adds to a text.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    plugins: Plugin = None,
) -> None:
    """Label image files, with probabilities in per cent. Exported ONNX files are run without torch.

    The run of a language model continues texts, one of a counting network counts; every run takes arrays (.npz).

    attar predict runs/kd-resnet56-resnet20-cifar100/export/student.onnx photos --top 3
    """
    import json
    import sys

    from attar.deploy.predict import of_run

    found = list(of_run(model, files, top, tokens))
    if as_json:
        # Another encoding than UTF-8 gets JSON's own escapes.
        ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        print(json.dumps([one.to_json() for one in found], indent=2, ensure_ascii=ascii_only))
    elif read := [one for one in found if one.error is None]:
        (show_labels if hasattr(read[0], "labels") else show_texts)(read)
    if errors := [one.error for one in found if one.error is not None]:
        fail("\nattar: ".join(errors))


def show_texts(predictions: list[Any]) -> None:
    """A file and what the network makes of it."""
    for one in predictions:
        console.print(f"{one.file}  {one.text}", markup=False, soft_wrap=True)


def show_labels(predictions: list[Any]) -> None:
    """A line an image: the file, then each class with its per cent, in columns."""
    names = [str(one.file) for one in predictions]
    labels = [[(name, f"{100 * p:.1f}") for name, p in one.labels] for one in predictions]
    wide = max(map(len, names))
    columns = [max(len(row[place][0]) for row in labels) for place in range(len(labels[0]))]
    for name, row in zip(names, labels, strict=True):
        cells = [f"{label:<{width}} {share:>5}" for (label, share), width in zip(row, columns, strict=True)]
        console.print(f"{name:<{wide}}  " + "  ".join(cells), markup=False, soft_wrap=True)
