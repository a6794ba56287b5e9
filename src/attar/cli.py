"""The command line: `attar distill`, `train`, `bench`, `evaluate`, `export`, `predict`, `profile`, ..."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperCommand

from attar.errors import AttarError, Stopped

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Knowledge distillation for image classifiers: put what a large network knows into a small one.",
)
console = Console(highlight=False)
INTERRUPTED, MISTAKE = 130, 2

RecipeArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A packaged recipe or a YAML file, and changes to it."),
]
DataArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the recipe's data section: name, root, ..."),
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option("--import", metavar="FILE.py", help="Python files to import first, with methods of your own."),
]


def main() -> None:
    """The entry point: a mistake in the input is one line and status 2."""
    try:
        status = app(standalone_mode=False)
    except AttarError as error:
        fail(str(error))
    except OSError as error:  # a full disk, a folder that may not be written
        fail(f"{error.strerror or error}: {error.filename or 'a file'}")
    except Stopped as stopped:
        how = f": attar resume {stopped}" if str(stopped) else "; the same command goes on"
        console.print(f"stopped; the state is saved{how}", markup=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except Exception as error:
        # The parser's own errors say in one line what they miss; any other exception is ours to mend.
        if not hasattr(error, "format_message"):
            raise
        fail(f"{error.format_message()} (attar --help)" if error.format_message() else "give a command (attar --help)")
    # Without its standalone mode the parser returns the status of what it ended itself, Ctrl-C for one.
    sys.exit(status if isinstance(status, int) else 0)


def fail(message: str) -> NoReturn:
    """One line on stderr, and status 2."""
    Console(stderr=True, soft_wrap=True).print(f"[bold red]attar:[/] {escape(message)}", highlight=False)
    sys.exit(MISTAKE)


class RecipeCommand(TyperCommand):
    """A command whose help ends with the keys of a recipe, read from the dataclasses' attribute docs."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from attar.recipe import describe

        super().format_help(ctx, formatter)
        table = Table("key", "default", "meaning", box=box.SIMPLE_HEAD, pad_edge=False, title="Keys of a recipe")
        table.columns[0].no_wrap = True
        for row in describe():
            table.add_row(*map(escape, row))
        console.print(table)


def split_arguments(arguments: list[str] | None) -> tuple[str | None, list[str]]:
    """The recipe file, where the first argument is one, and the key=value overrides."""
    if not arguments or "=" in arguments[0]:
        return None, arguments or []
    return arguments[0], arguments[1:]


def load_plugins(files: list[Path] | None) -> None:
    """Import Python files by path, so that the methods in them are registered."""
    for file in files or ():
        name = f"attar_import_{file.stem}"  # never the name of a module that others import
        spec = importlib.util.spec_from_file_location(name, file)
        if not file.is_file() or spec is None or spec.loader is None:
            raise AttarError(f"--import {file}: no such Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except AttarError:
            raise
        except Exception as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
            line = frames[-1].lineno if frames else getattr(error, "lineno", "?")
            raise AttarError(f"--import {file}: line {line}: {type(error).__name__}: {error}") from error


def show(summary: Any) -> None:
    """The tables and the headline of a finished job."""
    for table in (summary.accuracy_table(), summary.cost_table()):
        console.print(table.rich())
    console.print(summary.sentence(), markup=False)
    console.print(f"Report: {summary.report}\nStudent: {summary.student}", markup=False, soft_wrap=True)


@app.command(cls=RecipeCommand, short_help="Distil a small network from a large one.")
def distill(arguments: RecipeArguments = None, plugins: Plugin = None) -> None:
    """Distil a small network from a large one.

    With a recipe file, keys, or both. Where neither names a student, the embedded recipe runs, on real data:

    attar distill teacher=resnet56 teacher.weights=resnet56.pth student=resnet20 data=cifar100 data.root=data method=kd
    """
    from attar.recipe import read_recipe
    from attar.train import starting

    load_plugins(plugins)
    file, overrides = split_arguments(arguments)
    if file is None and not any(override.startswith("student") for override in overrides):
        file = "digits"
    show(starting.start(read_recipe(file, overrides), console, beside=partial(load_plugins, plugins)))


@app.command(cls=RecipeCommand, short_help="Train a network on the labels alone.")
def train(arguments: RecipeArguments = None) -> None:
    """Train a network on the labels alone: a teacher, or a baseline.

    attar train student=resnet56 data=cifar100 data.root=data epochs=30
    """
    from attar import api
    from attar.recipe import read_recipe
    from attar.train import starting

    file, overrides = split_arguments(arguments)
    show(starting.start(api.plain(read_recipe(file, overrides)), console, beside=partial(load_plugins, None)))


@app.command(short_help="Compare methods over pairs and seeds.")
def bench(
    suite: Annotated[Path, typer.Argument(metavar="SUITE.yaml", help="Methods, pairs, seeds and the common recipe.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the common recipe; out=, jobs=, together=."),
    ] = None,
    plugins: Plugin = None,
) -> None:
    r"""Compare methods over pairs of networks and seeds, a run folder each; finished runs are not done again.

    A suite: methods: \[kd, {name: dkd, beta: 2}], pairs: [{teacher: resnet56, student: resnet20}], seeds: 3, and
    recipe: with any other keys of a recipe for all runs. The table is in table.md and table.csv of the suite's folder.

    jobs=2 runs two at a time (default: as many as pay), together=4 lets four of a seed take turns with one teacher.
    """
    from attar.train.bench import read_suite

    load_plugins(plugins)
    bench = read_suite(suite, overrides or [], console)
    bench.prepare = partial(load_plugins, plugins)
    console.print(bench.run().rich())


@app.command(short_help="Score a saved network on a test set.")
def evaluate(
    network: Annotated[Path, typer.Argument(help="A run's folder, or a .safetensors file with its JSON.")],
    data: DataArguments = None,
    teacher: Annotated[Path | None, typer.Option(help="Another saved network to compare with.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Score a saved network on the test set it was trained for, or another with the same classes."""
    from attar import api
    from attar.recipe import parse

    keys: dict[str, Any] = {}
    for pair in data or ():
        keys |= parse(pair)
    keys |= keys.pop("data", None) or {}
    if clash := {"path", "teacher", "device"} & keys.keys():
        raise AttarError(f"{clash.pop()} is no key of data; give --teacher or --device, see attar evaluate --help")
    scores = api.evaluate(network, teacher=teacher, device=device, **keys)
    for key, value in dataclasses.asdict(scores).items():
        if value is not None and key != "per_class":
            console.print(
                f"{key:>10}  {value:.4f}" if isinstance(value, float) else f"{key:>10}  {value}", markup=False
            )


@app.command(short_help="Write a student as files for deployment, checked.")
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a .safetensors file with its JSON.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FORMAT]... [KEY=VALUE]...",
            help="safetensors, pt2, onnx, onnx-int8 (none means these), executorch. Keys: out, data.root and other "
            "keys of data, calibration (images), license.",
        ),
    ] = None,
    bake: Annotated[bool, typer.Option("--bake", help="The graphs take uint8 pixels and normalise inside.")] = False,
) -> None:
    """Write a finished run's student as files for deployment.

    Every file is read again, compared with the student on the whole test set, scored and timed. Beside the files: the
    table as export.json and export.md, and a model card.

    attar export runs/kd-resnet56-resnet20-cifar100 onnx onnx-int8 data.root=data
    """
    from attar import api
    from attar.report.exports import export_notes, export_table

    words = arguments or []
    keys = export_keys([word for word in words if "=" in word])
    with console.status("loading") as status:
        done = api.export(
            run,
            [word for word in words if "=" not in word],
            bake=bake,
            progress=lambda name: status.update(f"{name}: writing and checking"),
            **keys,
        )
    if done.files:
        console.print(export_table(done).rich())
        console.print(export_notes(done), markup=False)
        console.print(f"Files and model card: {done.folder}", markup=False, soft_wrap=True)
    if done.failures:
        fail("\nattar: ".join(done.failures.values()))


def export_keys(pairs: list[str]) -> dict[str, Any]:
    """key=value words as the keywords of `attar.export`."""
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


@app.command(short_help="Label image files.")
def predict(
    model: Annotated[Path, typer.Argument(help="An exported .onnx, an export's folder, a run's, or a .safetensors.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(help="How many classes to name.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, for machines.")] = False,
) -> None:
    """Label image files, with probabilities in per cent. An .onnx file needs no torch.

    attar predict runs/kd-resnet56-resnet20-cifar100/export/student.onnx photos --top 3
    """
    import json

    from attar.deploy.predict import predict as label

    found = list(label(model, images, top))
    if as_json:
        print(json.dumps([one.to_json() for one in found], indent=2, ensure_ascii=False))
    elif read := [one for one in found if one.error is None]:
        show_labels(read)
    if errors := [one.error for one in found if one.error is not None]:
        fail("\nattar: ".join(errors))


def show_labels(predictions: list[Any]) -> None:
    """A line an image: the file, then each class with its per cent, in columns."""
    names = [str(one.file) for one in predictions]
    labels = [[(name, f"{100 * p:.1f}") for name, p in one.labels] for one in predictions]
    wide = max(map(len, names))
    columns = [max(len(row[place][0]) for row in labels) for place in range(len(labels[0]))]
    for name, row in zip(names, labels, strict=True):
        cells = [f"{label:<{width}} {share:>5}" for (label, share), width in zip(row, columns, strict=True)]
        console.print(f"{name:<{wide}}  " + "  ".join(cells), markup=False, soft_wrap=True)


@app.command(short_help="Measure what networks cost.")
def profile(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names of the zoo, or folders of runs.")],
    batch: Annotated[int, typer.Option(help="Images in the larger pass.")] = 32,
    classes: Annotated[int, typer.Option(help="Of networks given by name.")] = 100,
    image_size: Annotated[int, typer.Option(help="Of networks given by name.")] = 32,
    channels: Annotated[int, typer.Option(help="Of networks given by name.")] = 3,
) -> None:
    """Measure what networks cost: parameters, MACs of one image, milliseconds, memory of activations, file size.

    attar profile resnet56 resnet20 runs/kd-resnet56-resnet20-cifar100
    """
    from attar.deploy import find_trained, load
    from attar.measure import profile as measure
    from attar.nets import create_model, list_models
    from attar.report.exports import profile_notes, profile_table

    found = {}
    for name in models:
        if name not in list_models() and (Path(name).exists() or name.endswith(".safetensors")):
            trained = find_trained(name)
            net, shape = load(trained.weights), tuple(trained.card["image_shape"])
        else:
            net = create_model(name, num_classes=classes, in_channels=channels, image_size=image_size)
            shape = (channels, image_size, image_size)
        with console.status(f"measuring {name}"):
            found[name] = measure(net, shape, batch)
    table = profile_table(found).rich()
    # Folders have long names; the numbers must stay whole.
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    console.print(table)
    console.print(profile_notes(batch), markup=False)


@app.command(short_help="Find students for a teacher under a budget.")
def suggest(
    teacher: Annotated[str, typer.Argument(help="The teacher's name: resnet56, timm/convnext_tiny, ...")],
    latency: Annotated[str | None, typer.Option(metavar="TIME", help="Of one pass: 5ms, 0.005s.")] = None,
    size: Annotated[str | None, typer.Option(metavar="BYTES", help="Of the weights' file: 10MB, 10MiB.")] = None,
    macs: Annotated[str | None, typer.Option(metavar="COUNT", help="Of one image: 300M, 1.2G.")] = None,
    params: Annotated[str | None, typer.Option(metavar="COUNT", help="Numbers that it learns: 5M.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="BYTES", help="Of a pass, weights not counted.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Of the images; by default as the teacher's.")] = None,
    teacher_size: Annotated[int | None, typer.Option(help="That the teacher brings them to first.")] = None,
    classes: Annotated[int, typer.Option(help="Of the networks.")] = 100,
    channels: Annotated[int, typer.Option(help="Of the images.")] = 3,
    batch: Annotated[int, typer.Option(help="Images in one pass.")] = 1,
    threads: Annotated[int, typer.Option(help="That a pass runs on.")] = 1,
    top: Annotated[int, typer.Option(help="How many students to find.")] = 10,
    among: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help='Only such names: "timm/mobile*".')] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Find students for a teacher under a budget: smaller networks, measured here, most parameters first.

    attar suggest timm/convnext_tiny --latency 30ms --size 20MB
    """
    import json

    from rich.progress import BarColumn, Progress, TextColumn

    from attar.measure import suggest as search
    from attar.report.suggestions import next_command, suggestion_json, suggestion_notes, suggestion_table

    screen = Console(stderr=True) if as_json else console
    columns = TextColumn("{task.description:<44.44}"), BarColumn(None), TextColumn("{task.completed}/{task.total}")
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("")
        found = search(
            teacher,
            latency=latency,
            size=size,
            macs=macs,
            params=params,
            memory=memory,
            image_size=image_size,
            teacher_size=teacher_size,
            classes=classes,
            channels=channels,
            batch=batch,
            threads=threads,
            top=top,
            among=among or (),
            progress=lambda what, done, of: bar.update(task, description=what, completed=done, total=of or None),
        )
    if as_json:
        print(json.dumps(suggestion_json(found), indent=2))
    else:
        table = suggestion_table(found).rich()
        # Libraries have long names: the space goes to them.
        table.padding = (0, 1, 0, 0)
        table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
        console.print(table)
        console.print(suggestion_notes(found), markup=False)
        if found.students:
            console.print(f"Go on with:\n{next_command(found)}", markup=False, soft_wrap=True)
    if not found.students:
        raise typer.Exit(1)


@app.command(short_help="Go on with an interrupted run.")
def resume(run: Annotated[Path, typer.Argument(help="The run's folder.")], plugins: Plugin = None) -> None:
    """Go on with an interrupted run, exactly where it stopped; a finished one only prints its table again."""
    from attar.train import starting

    load_plugins(plugins)
    show(starting.resume(run, console, partial(load_plugins, plugins)))


@app.command(short_help="Make the report of a finished run anew.")
def report(run: Annotated[Path, typer.Argument(help="The run's folder.")]) -> None:
    """Make report.html of a finished run anew, from the files in its folder alone, without data or weights."""
    from attar.report.run_page import write_report

    console.print(f"Report: {write_report(run)}", markup=False, soft_wrap=True)


@app.command(short_help="Put finished runs side by side.")
def compare(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="RUN... [out=FILE.html]", help="Folders of finished runs; the first is the baseline."),
    ],
) -> None:
    """Put finished runs side by side: a table, accuracy against cost, curves, and differences where seeds coincide.

    The page is compare.html unless out= names another; the table lies beside it as .md and .csv.

    attar compare runs/supervised-resnet20-cifar100 runs/kd-resnet56-resnet20-cifar100
    """
    from attar import api
    from attar.errors import unknown
    from attar.recipe import parse

    keys: dict[str, Any] = {}
    for word in (word for word in arguments if is_key(word)):
        keys |= parse(word)
    if strange := keys.keys() - {"out"}:
        raise unknown("key", strange.pop(), ["out"])
    found = api.compare(*[word for word in arguments if not is_key(word)], out=str(keys.get("out", "compare.html")))
    for content in (found.short_table(), found.gap_table()):
        if content.rows:
            table = content.rich()
            # Folders have long names; the numbers must stay whole.
            table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
            console.print(table)
    console.print(f"Report: {found.report}", markup=False, soft_wrap=True)


def is_key(word: str) -> bool:
    """Whether a word sets a key; folders of runs may have an = in their names, too."""
    return "=" in word and not Path(word).is_dir()


@app.command(short_help="Explain why a run stopped at a bad number.")
def replay(
    failure: Annotated[Path, typer.Argument(help="The failure.pt that the run's message named.")],
    plugins: Plugin = None,
) -> None:
    """Run the batch that broke a run again: each edge's loss, and the first number that is not finite."""
    from attar.train.replay import replay as explain_failure

    load_plugins(plugins)
    explain_failure(failure, console)


@app.command(short_help="List the methods, or explain one.")
def methods(
    name: Annotated[str | None, typer.Argument(help='A method, or a pattern such as "*kd*".')] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw who teaches whom into this file.")] = None,
    plugins: Plugin = None,
) -> None:
    """List the methods, or explain one: its source, its options and who teaches whom."""
    from attar.methods import list_methods
    from attar.report.catalogue import methods_table

    load_plugins(plugins)
    if name and not any(mark in name for mark in "*?["):
        return explain(name, svg)
    console.print(methods_table(list_methods(name or "*")).rich())
    return None


def explain(name: str, svg: Path | None) -> None:
    """Everything the registry knows about one method, with its graph as text and, where asked, as a picture."""
    import inspect

    from attar.files import write_text
    from attar.methods import create_method, method_info
    from attar.nets import create_model
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
