"""Attar's own training, as `attar distill` runs it: KD through the loop with its records, checkpoints and guards.

Variants: "float32", "bfloat16" and "int8" say how a live teacher computes, "int8 x2" that two students of one seed take
turns and share its answers; "cached" reads what an earlier run kept. With "compiled" its steps are.
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
from attar.experiments.build import Given
from attar.experiments.job import Job
from attar.experiments.shared_batches import Classroom
from attar.recipe import Recipe, read_recipe
from attar.teachers.cached_loader import with_cached_logits
from attar.teachers.int8 import Int8
from attar.train.loop import Places, steps
from attar.train.progress import Progress
from attar.train.turns import Steps, take_turns

EPOCHS = 2


class Clock(Progress):
    """Notes when each step is over, and each epoch with its records and checkpoint."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.steps: list[list[float]] = []
        self.epochs_ended: list[float] = []

    def step(self, epoch: int, step: int, running: object) -> None:
        if step == 0:
            self.steps.append([])
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
    )


def run(options: object, folder: Path, cache: Path | None, students: int = 1) -> Clock:
    """Short trainings as the command runs them, in turns, and the times of the first."""
    torch.set_num_threads(options.threads)  # type: ignore[attr-defined]
    room = Classroom(students)
    made = [ready(options, folder / str(number), cache, room) for number in range(students)]
    take_turns([phases for phases, _ in made])
    return made[0][1]


def ready(options: object, folder: Path, cache: Path | None, room: Classroom) -> tuple[Steps[None], Clock]:
    """One training, ready to start."""
    console = Console(file=io.StringIO())
    training = Job(recipe(options, cache), folder, console, Given(), room)._training(0)
    keep_freed_memory()  # where a job does it: after the images were read
    runtime = training.engined(training.precision())
    engines = runtime.teachers
    if not options.weights:  # type: ignore[attr-defined]
        # What random weights say differs too much in other precisions to be used; the time it takes is the same.
        precision = training.recipe.teacher.precision
        engines = (Int8.name if precision == Int8.name else f"folded {precision}",)
    training.engines.attach(training.method, engines)
    assert training.recipe.teacher.precision in engines[0], runtime.reason
    assert runtime.compiled == training.recipe.compile, runtime.reason
    clock = Clock(console, "", EPOCHS, len(training.loader), training.loader.batch_size)
    batches = room.batches(training.loader)
    loader = with_cached_logits(batches, training.method, training.recipe, training.splits.train, runtime, clock.say)
    folder.mkdir(parents=True)
    return steps(training.method, loader, None, training.recipe, runtime, Places(folder), clock), clock


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
        students = int(options.variant.partition(" x")[2] or 1)
        clock = run(options, Path(scratch) / "run", cache, students)
    warm = options.steps // 4
    more = {"epoch_seconds": clock.seconds_an_epoch_costs(warm)}
    common.report(students * options.batch / clock.seconds_a_step(warm), workers=False, **more)


if __name__ == "__main__":
    main()
