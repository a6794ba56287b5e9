"""Many short trainings side by side in one process, a step of all of them as one CUDA graph.

A small network's step is hundreds of kernels that each keep a large GPU busy for microseconds, so one training leaves
most of it idle. Here every training ("arm") has a stream of its own, all streams are captured once, and one replay does
a step of every arm. Arms of one seed and augmentation see the same batches, and the teacher computes once for them.

The parts are Attar's own (loader, networks, method, optimiser, schedule, average of weights, evaluation); only the loop
is another: no checkpoints, no guards, no weights of edges that change with the epoch. Without CUDA the arms take their
steps one after another, which is for tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from attar.accel.runtime import Runtime
from attar.batch import Address, Batch
from attar.data import DeviceLoader, Splits, eval_batches
from attar.knowledge import Output, weights_of
from attar.methods import create_method
from attar.metrics import evaluate
from attar.models import create_model, load_weights
from attar.recipe import Recipe, read_recipe
from attar.teachers.engines import Folded
from attar.train.ema import Ema
from attar.train.loop import smooth_labels
from attar.train.optim import optimiser
from attar.train.schedules import learning_rate

WARM_STEPS, TIMED_STEPS = 3, 30
EVAL_BATCH = 500


@dataclass(frozen=True)
class Arm:
    """One training: what a recipe would say of it.

    Attributes:
        name: what the results call it.
        overrides: KEY=VALUE of the recipe that differ from the base.
        seed: of the weights, the order and the views.
    """

    name: str
    overrides: tuple[str, ...] = ()
    seed: int = 0


class Track:
    """The batches of one seed and augmentation, in tensors that stay where they are, and the teacher's logits for them.

    Args:
        splits: the images.
        recipe: batch size, epochs, seed and augmentation.
        teacher: computes logits; None where no arm has a teacher.
        device: where everything is.
    """

    def __init__(self, splits: Splits, recipe: Recipe, teacher: Folded | None, device: torch.device) -> None:
        augment = splits.augment.changed(recipe.data.augment)
        self.loader = DeviceLoader(
            splits.train,
            recipe.batch_size,
            augment=augment,
            seed=recipe.seed,
            device=device,
            drop_last=True,
            epochs=recipe.epochs,
            channels_last=True,
        )
        self.teacher = teacher
        self.logits: Tensor | None = None
        first = next(iter(self.loader.epoch(0)))
        self.images, self.labels = first.inputs.clone(), first.labels.clone()
        assert first.index is not None
        self.index = first.index.clone()
        self.epochs = recipe.epochs

    def load(self, batch: Batch) -> None:
        """Put the next batch where the captured step reads it."""
        self.images.copy_(batch.inputs)
        self.labels.copy_(batch.labels)
        self.index.copy_(batch.index)  # type: ignore[arg-type]

    def teach(self) -> None:
        """The teacher's logits of the batch, once for all arms."""
        if self.teacher is not None:
            with torch.no_grad():
                self.logits = self.teacher(self.images).logits

    @property
    def batch(self) -> Batch:
        return Batch(self.images, self.labels, self.index, Address(self.loader.seed), self.epochs)


class Training:
    """An arm with its networks, its optimiser and its stream."""

    def __init__(
        self, arm: Arm, recipe: Recipe, track: Track, teacher: nn.Module, splits: Splits, runtime: Runtime, rate: Tensor
    ) -> None:
        self.arm, self.recipe, self.track, self.runtime = arm, recipe, track, runtime
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            student = create_model(recipe.student.name, num_classes=len(splits.train.classes), **recipe.student.options)
            distils = recipe.method.name != "supervised"
            method = create_method(
                recipe.method.name,
                student=student,
                teacher=teacher if distils else None,
                image_shape=splits.image_shape,
                **recipe.method.options,
            )
        method.setup(splits.train.labels)
        smooth_labels(method, recipe.optim.label_smoothing)
        self.method = method.to(device=runtime.device, memory_format=torch.channels_last).train()
        first, last = (replace(track.batch, address=Address(0, epoch)) for epoch in (0, recipe.epochs - 1))
        assert weights_of(method.edges, first) == weights_of(method.edges, last), f"{arm.name}: a weight changes"
        self.learner = optimiser(method.trainable(), recipe.optim)
        for group in self.learner.param_groups:
            group["lr"] = rate
        self.ema = Ema(self.method, recipe.optim.ema) if recipe.optim.ema else None
        self.stream = torch.cuda.Stream() if runtime.device.type == "cuda" else None
        self.total = torch.zeros((), device=runtime.device)

    def step(self) -> None:
        """One step on the track's batch."""
        for frozen in self.method.frozen():
            assert self.track.logits is not None
            frozen.set_output(self.track.images, Output(self.track.logits))
        with self.runtime.computing():
            losses = self.method.batch_losses(self.track.batch)
        losses.total.backward()
        self.total.copy_(losses.total.detach())
        self.learner.step()
        self.learner.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update()

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the weights and statistics."""
        return {name: tensor.detach().clone() for name, tensor in self.method.state_dict().items()}

    @torch.no_grad()
    def reset(self, state: dict[str, Tensor]) -> None:
        """Back to these weights, in place, as if no step had been made."""
        self.method.load_state_dict(state)
        self.learner.zero_grad(set_to_none=True)
        for one in self.learner.state.values():
            for tensor in one.values():
                if isinstance(tensor, Tensor):
                    tensor.zero_()
        if self.ema:
            for name, tensor in self.ema.state.items():
                tensor.copy_(state[name])

    def scores(self, images: Any, teacher: nn.Module) -> dict[str, float]:
        """Accuracy, NLL and KL to the teacher on a set, in float32, of the weights that would be deployed."""
        device = self.runtime.device
        with self.ema.applied() if self.ema else nullcontext():
            found = evaluate(self.method.deployed(), eval_batches(images, EVAL_BATCH, device, True), teacher)
        return {"top1": 100 * found.top1, "nll": found.nll, "kl": found.kl or 0.0, "agreement": found.agreement or 0.0}


@dataclass
class Outcome:
    """What a group of arms came to.

    Attributes:
        arms: for each arm its name, seed, overrides, scores and curve.
        step_ms: of a step of all arms.
        captured: whether a CUDA graph did the steps, or why not.
        left_out: arms that did not fit into the time.
        seconds: of all of it.
    """

    arms: list[dict[str, Any]] = field(default_factory=list)
    step_ms: float = 0.0
    captured: str = ""
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Lockstep:
    """Arms that train together.

    Args:
        arms: what is trained; all with one batch size, number of epochs and training set.
        base: KEY=VALUE of the recipe that all arms share.
        splits: the images.
        teacher: trained network, on the device.
        device: where.
    """

    def __init__(
        self, arms: list[Arm], base: list[str], splits: Splits, teacher: nn.Module, device: torch.device
    ) -> None:
        self.arms, self.splits, self.teacher, self.device = arms, splits, teacher, device
        # What float32 computes, the scores, is float32 in convolutions too.
        torch.backends.cudnn.allow_tf32 = False
        precision = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.runtime = Runtime(device, str(precision).removeprefix("torch."), "")
        recipes = [read_recipe(overrides=[*base, *arm.overrides, f"seed={arm.seed}"]) for arm in arms]
        self.epochs = recipes[0].epochs
        engine = Folded(teacher, precision)
        tracks: dict[str, Track] = {}
        for recipe in recipes:
            key = repr((recipe.seed, recipe.data.augment))
            if key not in tracks:
                tracks[key] = Track(splits, recipe, engine, device)
        self.tracks = list(tracks.values())
        self.steps = len(self.tracks[0].loader)
        total = self.steps * self.epochs
        rates = [[learning_rate(one.optim, step, self.steps, self.epochs) for one in recipes] for step in range(total)]
        self.table = torch.tensor(rates, device=device)
        self.rates = torch.zeros(len(arms), device=device)
        self.trainings = [
            Training(
                arm,
                recipe,
                tracks[repr((recipe.seed, recipe.data.augment))],
                teacher,
                splits,
                self.runtime,
                self.rates[number],
            )
            for number, (arm, recipe) in enumerate(zip(arms, recipes, strict=True))
        ]
        self.replay: Callable[[], None] = self.step
        self.captured = "no: no CUDA"

    def step(self) -> None:
        """One step of every arm; on CUDA each arm's in its own stream, which the present one waits for."""
        for track in self.tracks:
            track.teach()
        for training in self.trainings:
            with beside(training.stream):
                training.step()
        for training in self.trainings:
            if training.stream is not None:
                torch.cuda.current_stream().wait_stream(training.stream)

    def capture(self) -> None:
        """Make a CUDA graph of a step; the arms are as before afterwards. Where that fails, steps run as they are."""
        if self.device.type != "cuda":
            return
        states = [training.snapshot() for training in self.trainings]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_STEPS):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.step()
            graph.replay()
            torch.cuda.synchronize()
            self.replay, self.captured = graph.replay, "yes"
        except RuntimeError as error:
            torch.cuda.synchronize()
            self.replay, self.captured = self.step, f"no: {str(error).splitlines()[0]}"
        for training, state in zip(self.trainings, states, strict=True):
            training.reset(state)

    def seconds_a_step(self) -> float:
        """Of all arms, on one batch; the arms are as before afterwards."""
        steps = TIMED_STEPS if self.device.type == "cuda" else 1
        states = [training.snapshot() for training in self.trainings]
        self.replay()
        wait(self.device)
        start = time.perf_counter()
        for _ in range(steps):
            self.replay()
        wait(self.device)
        seconds = (time.perf_counter() - start) / steps
        for training, state in zip(self.trainings, states, strict=True):
            training.reset(state)
        return seconds

    def batches(self, epoch: int) -> Iterator[tuple[Batch, ...]]:
        """The batches of an epoch, one for each track."""
        return zip(*(track.loader.epoch(epoch) for track in self.tracks), strict=True)

    def fit(self, images: Any, log: Callable[[str], None], every: int = 20) -> list[dict[str, Any]]:
        """Train to the end; each arm with its scores on `images` after every so many epochs and in the end."""
        curves: list[list[tuple[int, float]]] = [[] for _ in self.trainings]
        done = 0
        for epoch in range(self.epochs):
            for batches in self.batches(epoch):
                for track, batch in zip(self.tracks, batches, strict=True):
                    track.load(batch)
                self.rates.copy_(self.table[done])
                self.replay()
                done += 1
            if (epoch + 1) % every == 0 or epoch + 1 == self.epochs:
                found = [training.scores(images, self.teacher) for training in self.trainings]
                for curve, scores in zip(curves, found, strict=True):
                    curve.append((epoch + 1, scores["top1"]))
                log(f"epoch {epoch + 1}: top-1 {[round(one['top1'], 2) for one in found]}")
        return [
            {
                "name": training.arm.name,
                "seed": training.arm.seed,
                "overrides": list(training.arm.overrides),
                **scores,
                "loss": float(training.total),
                "curve": curve,
            }
            for training, scores, curve in zip(self.trainings, found, curves, strict=True)
        ]


@contextmanager
def beside(stream: Any) -> Iterator[None]:
    """Inside, work goes to a stream that starts when the present one has come here."""
    if stream is None:
        yield
        return
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def together(
    arms: list[Arm],
    base: list[str],
    splits: Splits,
    teacher: nn.Module,
    device: torch.device,
    images: Any,
    budget: float,
    log: Callable[[str], None],
) -> Outcome:
    """Train as many of the arms, the first ones, as fit into so many seconds."""
    begun, left_out = time.perf_counter(), []
    while True:
        group = Lockstep(arms, base, splits, teacher, device)
        group.capture()
        step = group.seconds_a_step()
        needed = 1.15 * step * group.steps * group.epochs
        left = budget - (time.perf_counter() - begun)
        log(
            f"{len(arms)} arms: {1000 * step:.2f} ms a step, {needed:.0f} s needed, {left:.0f} s left, {group.captured}"
        )
        if needed <= left or len(arms) == 1:
            break
        fewer = max(1, min(len(arms) - 1, int(len(arms) * left / needed)))
        left_out = [arm.name for arm in arms[fewer:]] + left_out
        arms = arms[:fewer]
        del group
    found = group.fit(images, log)
    return Outcome(found, 1000 * step, group.captured, left_out, time.perf_counter() - begun)


def frozen_teacher(name: str, weights: str | None, classes: int, device: torch.device) -> nn.Module:
    """A trained network on the device, in float32."""
    net = create_model(name, num_classes=classes)
    if weights:
        load_weights(net, weights)
    return net.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)
