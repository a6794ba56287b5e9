"""What several students at one teacher's feet save: the steps of some methods one after another, and in turns.

    python benchmarks/together.py --data data --weights resnet56.pth

Every round trains a few steps of each method by itself, then as many of all of them in turns in one process (`attar
bench SUITE together=N`), where the batches and the frozen teacher's answers are computed once.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from attar.accel.allocator import keep_freed_memory
from attar.accel.runtime import environment
from attar.experiments.build import Given
from attar.experiments.job import Job
from attar.experiments.shared_batches import Classroom
from attar.recipe import Recipe, read_recipe
from attar.train.turns import Steps

WARM = 4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet56")
    parser.add_argument("--weights", required=True, help="of the teacher")
    parser.add_argument("--student", default="resnet20")
    parser.add_argument("--methods", nargs="*", default=["kd", "dkd", "at", "rkd", "fitnet", "simkd"])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds CIFAR-100")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/together.json"))
    return parser.parse_args()


def recipe(method: str, options: argparse.Namespace) -> Recipe:
    return read_recipe(
        teacher={"name": options.teacher, "weights": options.weights, "precision": "bfloat16"},
        student=options.student,
        method=method,
        data={"name": "cifar100", "root": str(options.data), "val_fraction": 0},
        batch_size=options.batch,
        epochs=1,
        precision="bfloat16",
        alone="skip",
    )


def trainings(methods: list[str], options: argparse.Namespace, folder: Path) -> list[Steps[object]]:
    """One training a method, as a suite makes them."""
    room, made = Classroom(len(methods)), []
    for method in methods:
        console, place = Console(file=io.StringIO()), folder / method
        training = Job(recipe(method, options), place, console, Given(), room)._training(0)
        made.append(training.steps(console, training.engined(training.precision())))
    return made


def seconds_a_round(phases: list[Steps[object]], steps: int) -> float:
    """One step of each, timed over several rounds after some to warm up."""
    for done, _ in enumerate(rounds(phases), 1):
        if done == WARM:
            begun = time.perf_counter()
        if done == WARM + steps:
            break
    took = (time.perf_counter() - begun) / steps
    for training in phases:
        training.close()
    return took


def rounds(phases: list[Steps[object]]) -> Iterator[None]:
    while True:
        for training in phases:
            next(training)
        yield


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of one step of every method by itself, and of one step of all in turns."""
    with tempfile.TemporaryDirectory() as scratch:
        found = {
            method: seconds_a_round(trainings([method], options, Path(scratch) / "apart"), options.steps)
            for method in options.methods
        }
        together = seconds_a_round(trainings(options.methods, options, Path(scratch) / "together"), options.steps)
    return {**found, "together": together}


def main() -> None:
    options = arguments()
    keep_freed_memory()
    results = []
    for number in range(1, options.rounds + 1):
        one = measured(options)
        results.append(one)
        apart = sum(one[method] for method in options.methods)
        each = ", ".join(f"{method} {1000 * one[method]:.0f}" for method in options.methods)
        print(
            f"round {number}: {each} ms; all in turns {1000 * one['together']:.0f} ms, {apart / one['together']:.2f} x"
        )
    ratios = [sum(one[method] for method in options.methods) / one["together"] for one in results]
    print(f"in turns: {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")
    settings = {key: str(value) for key, value in vars(options).items() if key not in ("data", "weights", "out")}
    record = {"environment": environment(), "settings": settings, "seconds": results}
    options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
