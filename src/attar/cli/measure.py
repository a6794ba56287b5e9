"""`attar check` looks at data, `evaluate` scores networks, `profile` measures cost, `suggest` finds students."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from attar.cli.arguments import Plugin
from attar.cli.entry import app, console, loading
from attar.errors import AttarError

DataArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the recipe's data section: name, root, ..."),
]


@app.command(short_help="Look at a data set before training.")
def check(
    data: Annotated[str, typer.Argument(help="A folder of images, or the name of a data set.")],
    keys: DataArguments = None,
    sheet: Annotated[Path, typer.Option(help="The PNG file for the contact sheet.")] = Path("contact-sheet.png"),
    plugins: Plugin = None,
) -> None:
    """Look at a data set as a training would read it: splits, classes, files that are broken, double or left out.

    attar check photos/ image_size=128 augment.rand_augment=2
    """
    with loading():
        from attar.report.data_check import check_data

    data = data.removeprefix("data=")
    with console.status(f"reading {data}"):
        found = check_data(data, sheet=sheet, **data_keys(keys or []))
    for line in found.lines:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Contact sheet: {found.sheet}", markup=False, soft_wrap=True)


@app.command(short_help="Score a saved network or an exported file on a test set.")
def evaluate(
    network: Annotated[
        Path,
        typer.Argument(help="A run's folder, a .safetensors file, an exported .onnx or .pt2 file, or a .pth file."),
    ],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA] [KEY=VALUE]...",
            help="A folder or the name of a data set; none: the network's own. Keys of the recipe's data section.",
        ),
    ] = None,
    named: Annotated[
        str | None, typer.Option("--network", metavar="NAME", help="The network that a .pth file holds weights of.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="Another saved network, to measure agreement with.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, xpu, mps or auto.")] = "auto",
    out: Annotated[Path, typer.Option(help="The folder for the tables as CSV and the mistakes.")] = Path("evaluation"),
    plugins: Plugin = None,
) -> None:
    """Score a saved network on the test set of its own data, or on any data with its classes.

    Prints the measures and, of a classifier, precision, recall and F1 of each class and the confusion matrix. The
    folder gets them as CSV, and mistakes.csv: the file of every image with a wrong class, and the probabilities.

    attar evaluate runs/photos/export/student.int8.onnx new-photos
    """
    with loading():
        from attar.experiments.evaluation import evaluate_network
        from attar.experiments.training import counted

    given = data or []
    places, keys = [one for one in given if "=" not in one], data_keys([one for one in given if "=" in one])
    if len(places) > 1:
        raise AttarError(f"give one data set, got {', '.join(places)}")
    if clash := {"path", "teacher", "device", "out", "network"} & keys.keys():
        raise AttarError(f"{clash.pop()} is no key of data; see the options of attar evaluate --help")
    with console.status(f"reading {places[0] if places else 'the data'}") as status:
        found = evaluate_network(
            network,
            places[0] if places else None,
            network=named,
            teacher=teacher,
            device=device,
            keys=keys,
            shown=partial(counted, status, str(network)),
        )
    for table in found.tables():
        console.print(table)
    for line in found.hints():
        console.print(line, markup=False)
    with console.status("writing the tables"):
        found.write(out)
    written = "Scores" if found.confusion is None else "Tables and mistakes"
    console.print(f"{written}: {out}", markup=False, soft_wrap=True)


def data_keys(pairs: list[str]) -> dict[str, Any]:
    """key=value arguments as keys of a recipe's data section, with or without `data.` before them."""
    from attar.recipe import parse

    keys: dict[str, Any] = {}
    for pair in pairs:
        tree = parse(pair)
        section = tree.pop("data", {})
        keys |= tree | (section if isinstance(section, dict) else {"name": section})
    return keys


@app.command(short_help="Measure parameters, MACs, latency and memory.")
def profile(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names of networks, or folders of runs.")],
    batch: Annotated[int, typer.Option(help="Images per pass, beside the pass with one image.")] = 32,
    classes: Annotated[int, typer.Option(help="Classes of networks given by name.")] = 100,
    image_size: Annotated[int, typer.Option(help="Side of their images, in pixels.")] = 32,
    channels: Annotated[int, typer.Option(help="Channels of their images.")] = 3,
    plugins: Plugin = None,
) -> None:
    """Measure the cost of networks: parameters, MACs per image, latency, memory of activations, file size.

    attar profile resnet56 resnet20 runs/kd-resnet56-resnet20-cifar100
    """
    with loading():
        from attar.deploy import find_trained, load
        from attar.models import create_model, list_models
        from attar.profiling import profile as measure
        from attar.report.exports import profile_notes, profile_table

    found = {}
    for name in models:
        if name not in list_models() and (Path(name).exists() or name.endswith(".safetensors")):
            trained = find_trained(name)
            net, shape = load(trained.weights), tuple(trained.card.get("image_shape") or trained.card["input_shape"])
        else:
            net = create_model(name, num_classes=classes, in_channels=channels, image_size=image_size)
            shape = (channels, image_size, image_size)
        with console.status(f"measuring {name}"):
            found[name] = measure(net, shape, batch)
    console.print(profile_table(found))
    console.print(profile_notes(batch), markup=False)


@app.command(short_help="Find students for a teacher under a budget.")
def suggest(
    teacher: Annotated[
        str, typer.Argument(help="The teacher's name, resnet56 or timm/convnext_tiny, or the folder of its run.")
    ],
    latency: Annotated[str | None, typer.Option(metavar="TIME", help="Most latency of a pass: 5ms, 0.005s.")] = None,
    size: Annotated[str | None, typer.Option(metavar="BYTES", help="Largest file of weights: 10MB, 10MiB.")] = None,
    macs: Annotated[str | None, typer.Option(metavar="COUNT", help="Most MACs per image: 300M, 1.2G.")] = None,
    params: Annotated[str | None, typer.Option(metavar="COUNT", help="Most parameters: 5M.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="BYTES", help="Most memory of a pass, without weights.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the images; default: the teacher's.")] = None,
    teacher_size: Annotated[int | None, typer.Option(help="Side the teacher resizes them to first.")] = None,
    classes: Annotated[int | None, typer.Option(help="Classes of the networks; default: the run's, or 100.")] = None,
    channels: Annotated[int | None, typer.Option(help="Channels of the images; default: the run's, or 3.")] = None,
    batch: Annotated[int, typer.Option(help="Images per pass.")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads of a pass.")] = 1,
    top: Annotated[int, typer.Option(help="Most students to list.")] = 10,
    among: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help='Only such names: "timm/mobile*".')] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plugins: Plugin = None,
) -> None:
    """Find students for a teacher under a budget: smaller networks, measured on this machine, largest first.

    attar suggest timm/convnext_tiny --latency 30ms --size 20MB
    """
    import json

    from rich.progress import BarColumn, Progress, TextColumn

    with loading():
        from attar import api
        from attar.report.suggestions import next_command, suggestion_json, suggestion_notes, suggestion_table

    sizes = {"classes": classes, "channels": channels, "image_size": image_size}
    screen = Console(stderr=True) if as_json else console
    columns = TextColumn("{task.description:<44.44}"), BarColumn(None), TextColumn("{task.completed}/{task.total}")
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("")
        found = api.suggest(
            teacher,
            latency=latency,
            size=size,
            macs=macs,
            params=params,
            memory=memory,
            teacher_size=teacher_size,
            **{key: value for key, value in sizes.items() if value is not None},
            batch=batch,
            threads=threads,
            top=top,
            among=among or (),
            progress=lambda what, done, of: bar.update(task, description=what, completed=done, total=of or None),
        )
    if as_json:
        print(json.dumps(suggestion_json(found), indent=2))
    else:
        console.print(suggestion_table(found))
        console.print(suggestion_notes(found), markup=False)
        if found.students:
            console.print(f"Next:\n{next_command(found)}", markup=False, soft_wrap=True)
    if not found.students:
        raise typer.Exit(1)
