"""One training in one folder: built, fitted, measured; a finished one is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.status import Status
from torch import Tensor, nn

from attar.accel.compiled_steps import choose_compiled
from attar.accel.runtime import Runtime, choose, find_device, step_seconds
from attar.batch import Batch
from attar.conformance import check
from attar.conformance.unlabelled_batches import learns_without_labels
from attar.data import ImageSet, Mixing, Samples, batches_of, eval_batches, training_loader
from attar.deploy import load, save
from attar.distributed.team import team
from attar.errors import AttarError, first_line
from attar.experiments.build import Sets, task_title
from attar.experiments.kept_choices import Choices
from attar.experiments.teacher_predictions import TeacherPredictions
from attar.files import write_json
from attar.methods import Method
from attar.metrics import Metrics
from attar.metrics.predictions import evaluate_each, predictions_file, save_predictions
from attar.profiling import Cost, Result, cost, read_scores
from attar.profiling.cost import Sample
from attar.recipe import Recipe, data_title
from attar.teachers.cached_loader import check_cache_top, with_cached_logits
from attar.teachers.selection import Engines, choose_engines
from attar.track import Tracking
from attar.track.following import Following
from attar.train.logging import read
from attar.train.loop import Places, fit
from attar.train.optim import BY_COMPONENT, check_components, for_method, optimiser
from attar.train.progress import Progress
from attar.train.schedules import check_warmup

# How many images a fast teacher must agree on before it is used.
COMPARED = 512
Log = Callable[[str], None]
Shown = Callable[[Iterable[Batch]], Iterable[Batch]]
OnEpoch = Callable[[dict[str, Any], float], None]


@dataclass
class Training:
    """A training that is ready to start: everything that could be wrong with its input has been found.

    A method that learns from labels alone is not shown the unlabelled images.

    Attributes:
        method: what is trained.
        splits: the data.
        recipe: how.
        folder: where.
        title: what the progress lines call it.
        teacher_predictions: the teacher that the student's agreement is measured with.
        engines: makes fast ways to compute the frozen networks, shared by the trainings of a job.
        tracking: who follows the trainings of the job.
    """

    method: Method
    splits: Sets
    recipe: Recipe
    folder: Path
    title: str
    teacher_predictions: TeacherPredictions | None = None
    engines: Engines | None = None
    tracking: Tracking | None = None

    def __post_init__(self) -> None:
        self.device = find_device(self.recipe.device)
        of_each_batch = self.recipe.data.unlabelled_batch
        if of_each_batch is not None and self.splits.unlabelled is None:
            raise AttarError(f"data.unlabelled_batch={of_each_batch} has no images; give data.unlabelled=FOLDER")
        self.loader = training_loader(
            self.splits,
            self.recipe.batch_size,
            seed=self.recipe.seed,
            device=self.device,
            epochs=self.recipe.epochs,
            view_seed=self.recipe.data.view_seed,
            share=team().share,
            unlabelled=learns_without_labels(self.method),
            unlabelled_batch=of_each_batch,
            mixing=Mixing(self.recipe.data.mixup, self.recipe.data.cutmix),
            repeats=self.recipe.data.repeats,
            views=self.method.views(),
        )

    def try_a_batch(self) -> None:
        """One batch through the method, where every mistake in a recipe shows.

        Raises:
            AttarError: what does not hold, with the message of `check`.
        """
        optim, _ = for_method(self.method, self.recipe)
        for phase in self.method.phases:
            optimiser(self.method.trainable(phase), optim)
        check_components(self.method, self.recipe.optim, team().size, bool(self.recipe.compile))
        check_cache_top(self.method, self.recipe, self.splits.num_classes)
        check_warmup(self.recipe.optim, self.recipe.epochs)
        self._place()
        check(self.method, next(iter(self.loader.epoch(0))))

    def bytes_needed(self) -> int:
        """About how many bytes two checkpoints and the deployed student take, with one state of the optimiser."""

        def size(values: Iterable[Any]) -> int:
            return sum(one.numel() * one.element_size() for one in values if isinstance(one, Tensor))

        state = size(self.method.state_dict().values())
        copies = 1 + (self.recipe.optim.ema is not None) + (self.recipe.select == "best")
        learnt = size(one for one in self.method.parameters() if one.requires_grad)
        return 2 * (copies * state + learnt) + state

    def _place(self) -> None:
        self.method.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def precision(self, choices: Choices) -> Runtime:
        """Device and precision of the student, found by trying where the recipe has auto and nobody has tried yet."""

        def tried() -> dict[str, str]:
            found = choose(self.method, self._a_batch(), self.device, self.recipe.precision)
            return {"precision": found.precision, "reason": found.reason}

        auto = self.recipe.precision == "auto"
        return Runtime(self.device, **(choices.once("precision", "", tried) if auto else tried()))

    def step_seconds(self, runtime: Runtime) -> float:
        """What a step takes, its frozen teachers as they are."""
        return step_seconds(self.method, self.method.batch_losses, self._a_batch(), runtime)

    def _a_batch(self) -> Batch:
        self._place()
        return next(iter(self.loader.epoch(0)))

    def engined(self, runtime: Runtime, choices: Choices) -> Runtime:
        """A runtime with the engine of each frozen teacher and whether steps are compiled.

        Both are found by trying, or as chosen before.

        The teachers must be trained: an engine is compared with the very weights that it will stand for.
        """
        self._place()
        batches = list(islice(self.loader.epoch(0), -(-COMPARED // self.loader.batch_size)))
        shown = len(self.splits.train) + len(self.loader) * self.loader.unlabelled_batch
        passes = self.recipe.epochs * self.recipe.seeds * shown
        teacher, method, student = self.recipe.teacher, self.recipe.method, self.recipe.student

        # Teachers that differ in their seed only have one engine: it is chosen once for a suite.
        names = (teacher.name, re.sub(r"\bseed\d+\b", "seed", teacher.weights or ""), teacher.precision)

        def once(what: str, of: str, choose: Callable[[], Any]) -> Any:
            return choices.once(what, f"{' '.join(filter(None, names))}, {of}", choose)

        specs, lines = choose_engines(self.method, batches, runtime, teacher.precision, self._engines, passes, once)
        # What compiling gains is a share of steps with the teacher that training has.
        self._engines.attach(self.method, specs)
        # Processes that work on one run compute as they are; several backward passes need a plain graph.
        wanted = self.recipe.compile if team().size == 1 and self.recipe.optim.name not in BY_COMPONENT else False
        steps = self.recipe.epochs * self.recipe.seeds * len(self.loader)
        accumulate, line = self.recipe.optim.accumulate, ""

        def tried() -> bool:
            nonlocal line
            compiled, line = choose_compiled(self.method, batches[0], runtime, wanted, steps, accumulate)
            return compiled

        pair = f"{method.name} {json.dumps(method.options, default=str)}, {teacher.name} -> {student.name}"
        compiled = choices.once("compiled", pair, tried) if wanted is None else tried()
        line = line or ("compiled steps, as chosen before" if compiled else "")
        reason = "\n".join(filter(None, [runtime.reason, *lines, line]))
        return replace(runtime, teachers=specs, compiled=compiled, reason=reason)

    def run(self, console: Console, runtime: Runtime) -> list[Result]:
        """Train, deploy and measure; what an earlier process did already is not done again."""
        with self._followed(console) as following:
            self._train(console, runtime, following)
            return report_results(self.folder, following)

    def _followed(self, console: Console) -> Following:
        return followed(self.recipe, self.folder, self.title, self.tracking, console)

    def _train(self, console: Console, runtime: Runtime, following: Following) -> None:
        members = team()
        if members.from_leader(lambda: finished(self.folder)):
            if members.leader:
                complete(self.folder, self.splits.test.example, self.device, printed(console, self.title))
        else:
            self.fit(console, runtime, following.epoch)
            if members.leader:
                self._deploy_and_measure(printed(console, self.title), test_bar(console, self.title))

    def fit(self, console: Console, runtime: Runtime, on_epoch: OnEpoch) -> None:
        """Train to the end, from the checkpoint where there is one; nothing is deployed or measured on the test set.

        Args:
            console: where to print.
            runtime: what to compute with.
            on_epoch: gets the record of each epoch, with its validation scores, and its samples per second.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._place()
        self._engines.attach(self.method, runtime.teachers)
        if not Places(self.folder).checkpoint.exists():
            self.prepare(console)
        recipe, size = self.recipe, self.loader.batch_size + self.loader.unlabelled_batch
        lengths = (recipe.epochs, len(self.loader), size, recipe.optim.accumulate)
        sample = self.method.task.metrics().sample
        with Progress(console, self.title, *lengths, on_epoch=on_epoch, sample=sample) as progress:
            if self.splits.unlabelled is not None:
                progress.log(self._shown_unlabelled(self.splits.unlabelled))
            train, places = self.splits.train, Places(self.folder)
            loader = with_cached_logits(self.loader, self.method, recipe, train, runtime, progress.log)
            fit(self.method, loader, self.splits.val, recipe, runtime, places, progress)

    def prepare(self, console: Console) -> None:
        """Show training images from all of the set, not varied, to a method that wants some before its first step."""
        train, wanted = self.splits.train, self.method.wanted_images()
        if not wanted:
            return
        places = torch.linspace(0, len(train) - 1, min(wanted, len(train))).long()
        batches = eval_batches(train.subset(places), self.loader.batch_size, self.device)
        with console.status(f"{self.title}: looking at training images") as status:
            self.method.prepare(counted(status, f"{self.title}: looking at training images", batches))

    def _shown_unlabelled(self, images: ImageSet) -> str:
        more = self.loader.unlabelled_batch
        if not more:
            return f"learns from labels alone, without the {len(images)} unlabelled images"
        size = self.loader.batch_size
        return f"{len(images)} unlabelled images join, {more} in each batch beside {size} labelled ones"

    @property
    def _engines(self) -> Engines:
        if self.engines is None:
            self.engines = Engines(self.splits.train)
        return self.engines

    def _deploy_and_measure(self, log: Log, shown: Shown) -> None:
        """Write every deployed network, score it and, last of all, write scores.json, which marks the run as finished.

        Raises:
            AttarError: a network cannot be scored; it is on the disk.
        """
        test, task = self.splits.test, self.method.task
        networks = {"student": self.method.deployed(), **self.method.also_deployed()}
        for name, net in networks.items():
            save(net, self.folder / f"{name}.safetensors", **card(test, {}, self.recipe))
        results = []
        for name, net in networks.items():
            file = self.folder / f"{name}.safetensors"
            with one_line(f"{file} is trained and saved, but cannot be scored; it is scored when the run is resumed"):
                metrics, other = task.metrics(), self.teacher_predictions
                results.append(measure(name, net, test, metrics, self.device, other, self.folder, log, shown))
        for result, net in zip(results, networks.values(), strict=True):
            save(net, self.folder / f"{result.name}.safetensors", **card(test, result.scores, self.recipe))
        write_json(self.folder / "scores.json", {"results": [result.to_json() for result in results]})


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Whatever goes wrong inside as one line that begins with what it means."""
    try:
        yield
    except Exception as error:
        raise AttarError(f"{what}: {first_line(error)}") from error


def complete(folder: Path, example: Sample, device: torch.device, log: Log) -> None:
    """Measure the costs that an earlier process could not, of the networks in a finished training's folder."""
    results = read_scores(folder)
    if all(result.cost.complete for result in results):
        return
    for number, result in enumerate(results):
        with one_line(f"{folder}: the cost of {result.name} cannot be measured"):
            net = load(folder / f"{result.name}.safetensors").to(device)
        results[number] = replace(result, cost=cost_of(result.name, net, example, log))
    write_json(folder / "scores.json", {"results": [result.to_json() for result in results]})


def cost_of(name: str, net: nn.Module, example: Sample, log: Log) -> Cost:
    """A network's cost; a part that cannot be measured is a line, and measured when the run is resumed."""
    return cost(net, example, lambda line: log(f"{name}: {line}; measured again when the run is resumed"))


def finished(folder: Path) -> bool:
    """Whether the training of a folder is."""
    return (folder / "scores.json").exists()


def followed(recipe: Recipe, folder: Path, title: str, tracking: Tracking | None, console: Console) -> Following:
    """Those who follow a training, with the records of what it has done so far; only the leader has any."""
    tracking = tracking if tracking and team().leader else Tracking([], folder)
    return tracking.follow(folder, asdict(recipe), read(Places(folder).metrics), printed(console, title))


def printed(console: Console, title: str) -> Log:
    """Prints a line that begins with a training's title."""
    return lambda line: console.print(f"{title}: {line}", markup=False, highlight=False, soft_wrap=True)


def test_bar(console: Console, title: str) -> Shown:
    """Passes the batches of a test on; in a terminal a line counts the samples that are done."""

    def shown(batches: Iterable[Batch]) -> Iterator[Batch]:
        with console.status(f"{title}: testing") as status:
            yield from counted(status, f"{title}: testing", batches)

    return shown


def counted(status: Status, doing: str, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Passes batches on and counts the samples that are done in a line."""
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        status.update(f"{doing}, {done:,} done")


def report_results(folder: Path, following: Following) -> list[Result]:
    """The results of a finished training, reported to those who follow it."""
    results = team().from_leader(lambda: read_scores(folder))
    following.finish({key: value for result in results for key, value in result.numbers().items()})
    return results


def measure(
    name: str,
    net: nn.Module,
    samples: Samples,
    metrics: Metrics,
    device: torch.device,
    teacher_predictions: TeacherPredictions | None,
    folder: Path,
    log: Log,
    shown: Shown = iter,
) -> Result:
    """Scores on a set and cost, in float32 as the network is deployed; the predictions are kept in the folder.

    Args:
        name: what the result calls it.
        net: the network.
        samples: the set.
        metrics: of the task; its sums grow.
        device: where it runs.
        teacher_predictions: the teacher that its outputs are compared with.
        folder: where the predictions go.
        log: prints what could not be measured.
        shown: passes the batches on and shows how many are done.
    """
    net.to(device).eval()
    if teacher_predictions:
        teacher_predictions.to(device).begin(samples)
    is_teacher = teacher_predictions is not None and teacher_predictions.net is net
    scores, predictions = evaluate_each(
        teacher_predictions if teacher_predictions and is_teacher else net,
        shown(batches_of(samples, device)),
        metrics,
        teacher=None if is_teacher else teacher_predictions,
    )
    if predictions is not None:
        save_predictions(predictions, folder / predictions_file(name))
    return Result(name, scores, cost_of(name, net, samples.example, log))


def card(samples: Samples, scores: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """What the JSON beside deployed weights holds besides the network's spec."""
    return {
        **samples.card,
        # The classes of the images that features are scored on are not the network's.
        **({"classes": []} if task_title(recipe) == "features" else {}),
        "task": task_title(recipe),
        "task_options": recipe.task.options,
        "data": recipe.data.name,
        "data_title": data_title(recipe.data),
        "data_options": recipe.data.options,
        "seed": recipe.seed,
        "method": recipe.method.name,
        "teacher": recipe.teacher.name or None,
        "test": {key: value for key, value in scores.items() if key != "per_class"},
    }
