"""What the framework costs over the best hand-written loop that does the same work: interleaved steps.

    python benchmarks/overhead.py --data data --weights resnet56.pth

Both train the same student with the same frozen teacher in one process, a step of one and a step of the other, so that
the machine's load falls on both; what is compared is the median step. Attar's step includes its logs, its invariants
and the detection of non-finite values.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from attar.accel.allocator import keep_freed_memory
from attar.accel.runtime import environment
from attar.batch import Batch
from attar.data import Wrapped
from attar.experiments.job import Job
from attar.experiments.kept_choices import Choices
from attar.recipe import read_recipe
from attar.train.loop import Places, fit
from attar.train.progress import Progress

# The contenders are scripts beside each other.
sys.path.insert(0, str(Path(__file__).parent / "contenders"))
import common
import hand_written

WARM = 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet56")
    parser.add_argument("--weights", required=True, help="of the teacher")
    parser.add_argument("--student", default="resnet20")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds CIFAR-100")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of both loops")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/overhead.json"))
    return parser.parse_args()


class EnoughSteps(Exception):  # noqa: N818 - the measurement is complete
    """Ends attar's training after the last timed step."""


@dataclass
class Interleaved(Wrapped):
    """A loader that runs and times a step of another loop between two steps of the training that reads it.

    Attributes:
        loader: gives the batches.
        other: yields after every step of the other loop.
        steps: how many pairs to run.
        seconds: what each step took, by loop; reading the batch is part of a step.
    """

    other: Iterator[object]
    steps: int
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"hand-written": [], "attar": []})

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, until there were enough steps."""
        begun = time.perf_counter()
        for batch in self.loader.epoch(epoch, start_step):
            yield batch
            self.seconds["attar"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            next(self.other)
            self.seconds["hand-written"].append(time.perf_counter() - begun)
            if len(self.seconds["attar"]) == self.steps:
                raise EnoughSteps
            begun = time.perf_counter()


def measured(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """The seconds of every step of each loop, interleaved, after some to warm up."""
    recipe = read_recipe(
        teacher={"name": options.teacher, "weights": options.weights, "precision": options.precision},
        student=options.student,
        data={"name": "cifar100", "root": str(options.data), "val_fraction": 0},
        optim={"schedule": "constant", "nesterov": True, **common.SGD},
        batch_size=options.batch,
        epochs=1,
        precision=options.precision,
        device=options.device,
        alone="skip",
    )
    console = Console(file=io.StringIO())
    training = Job(recipe, folder, console).training(0)
    choices = Choices()
    runtime = training.engined(training.precision(choices), choices)
    training.engines.attach(training.method, runtime.teachers)
    loader = Interleaved(training.loader, hand_written.steps(options), WARM + options.steps)
    folder.mkdir(parents=True)
    progress = Progress(console, "", recipe.epochs, len(loader), loader.batch_size)
    try:
        fit(training.method, loader, None, recipe, runtime, Places(folder), progress)
    except EnoughSteps:
        return {name: taken[WARM:] for name, taken in loader.seconds.items()}
    raise SystemExit(f"an epoch has only {len(loader)} steps; give --steps up to {len(loader) - WARM}")


def main() -> None:
    options = arguments()
    keep_freed_memory()
    torch.manual_seed(0)
    options.variant = ""
    with tempfile.TemporaryDirectory() as scratch:
        seconds = measured(options, Path(scratch) / "run")
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    pairs = [ours / theirs - 1 for ours, theirs in zip(seconds["attar"], seconds["hand-written"], strict=True)]
    first, middle, third = (100 * quarter for quarter in statistics.quantiles(pairs, n=4))
    for name, median in medians.items():
        print(f"{name:14s} {1000 * median:6.1f} ms a step")
    print(f"attar takes {middle:+.1f} % (quartiles {first:+.1f} to {third:+.1f}) over {options.steps} pairs of steps")
    settings = {key: str(value) for key, value in vars(options).items() if key not in ("data", "weights", "out")}
    record = {"environment": environment(), "settings": settings, "seconds": seconds}
    options.out.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
