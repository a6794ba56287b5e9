"""Attar's own training, as `attar distill` runs it: KD through the loop with its records, checkpoints and guards.

Variants: "float32", "bfloat16" and "int8" are the precision of a live teacher; "cached" reads logits that an earlier
run wrote. With "compiled" the steps are compiled.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import tempfile
import time
from pathlib import Path

import common
import torch
from rich.console import Console

from attar.accel.allocator import keep_freed_memory
from attar.accel.engine_spec import INT8, EngineSpec
from attar.experiments.job import Job
from attar.experiments.kept_choices import Choices
from attar.recipe import Recipe, read_recipe
from attar.teachers.cached_loader import with_cached_logits
from attar.train.loop import Places, fit
from attar.train.progress import Progress

EPOCHS = 2


class Clock(Progress):
    """Notes when each step is over, and each epoch with its records and checkpoint."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.steps: list[list[float]] = []
        self.waits: tuple[int, ...] = ()
        self.epochs_ended: list[float] = []

    def step(self, epoch: int, step: int, running: object) -> None:
        if step == 0:
            self.steps.append([])
        if step in self.waits:
            torch.cuda.synchronize()
        self.steps[epoch].append(time.perf_counter())

    def epoch(self, record: dict[str, object], seconds: float) -> None:
        self.epochs_ended.append(time.perf_counter())

    def seconds_a_step(self, warm: int) -> float:
        """In the last epoch, after some to warm up."""
        ends = self.steps[-1]
        return (ends[-1] - ends[warm]) / (len(ends) - 1 - warm)

    def seconds_an_epoch_costs(self, warm: int) -> float:
        """What the last epoch took beside its steps: its order, a look at the cache, the guards, the checkpoint."""
        whole = self.epochs_ended[-1] - self.epochs_ended[-2]
        return whole - len(self.steps[-1]) * self.seconds_a_step(warm)


def recipe(options: object, cache: Path | None) -> Recipe:
    images = (options.steps + options.steps // 4) * options.batch  # type: ignore[attr-defined]
    teacher = {"name": options.teacher, "weights": options.weights or None}  # type: ignore[attr-defined]
    variant = options.variant.partition(" ")[0]  # type: ignore[attr-defined]
    precision = "float32" if variant == "cached" else variant
    return read_recipe(
        teacher={**teacher, "precision": precision, "cache": cache and str(cache)},
        student=options.student,  # type: ignore[attr-defined]
        data={"name": "cifar100", "root": str(options.data), "val_fraction": 0, "train_size": images},  # type: ignore[attr-defined]
        optim={"schedule": "constant", "nesterov": True, **common.SGD},
        batch_size=options.batch,  # type: ignore[attr-defined]
        epochs=EPOCHS,
        precision="bfloat16",
        compile="compiled" in options.variant,  # type: ignore[attr-defined]
        alone="skip",
        device=options.device,  # type: ignore[attr-defined]
    )


def run(options: object, folder: Path, cache: Path | None) -> Clock:
    """A short training as the command runs it, and its times."""
    torch.set_num_threads(options.threads)  # type: ignore[attr-defined]
    console = Console(file=io.StringIO())
    training = Job(recipe(options, cache), folder, console).training(0)
    keep_freed_memory()  # where a job does it: after the images were read
    choices = Choices()
    runtime = training.engined(training.precision(choices), choices)
    engines = runtime.teachers
    if not options.weights:  # type: ignore[attr-defined]
        # The logits of random weights differ too much in other precisions to be used; the time it takes is the same.
        precision = training.recipe.teacher.precision
        engines = (INT8 if precision == str(INT8) else EngineSpec("folded", precision),)
    training.engines.attach(training.method, engines)
    assert training.recipe.teacher.precision in str(engines[0]), runtime.reason
    assert runtime.compiled == training.recipe.compile, runtime.reason
    clock = Clock(console, "", EPOCHS, len(training.loader), training.loader.batch_size)
    if options.device != "cpu":  # type: ignore[attr-defined]
        # The first and the last step that are timed wait for the GPU.
        clock.waits = (options.steps // 4, len(training.loader) - 1)  # type: ignore[attr-defined]
    train = training.splits.train
    loader = with_cached_logits(training.loader, training.method, training.recipe, train, runtime, clock.log)
    folder.mkdir(parents=True)
    fit(training.method, loader, None, training.recipe, runtime, Places(folder), clock)
    return clock


def main() -> None:
    options = common.arguments()
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache" if options.variant.startswith("cached") else None
        if cache:
            # A process of its own, as the earlier run is: its memory is not this one's.
            plain = argparse.Namespace(**{**vars(options), "variant": "cached"})
            earlier = multiprocessing.get_context("spawn").Process(
                target=run, args=(plain, Path(scratch) / "filling", cache)
            )
            earlier.start()
            earlier.join()
        clock = run(options, Path(scratch) / "run", cache)
    warm = options.steps // 4
    more = {"epoch_seconds": clock.seconds_an_epoch_costs(warm)}
    common.report(options.batch / clock.seconds_a_step(warm), workers=False, **more)


if __name__ == "__main__":
    main()
