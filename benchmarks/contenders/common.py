"""What every contender shares: the networks, the data, and how the clock is read."""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from attar.data import Splits, load_data
from attar.models import create_model, load_weights

TEMPERATURE, CE, KD = 4.0, 0.1, 0.9
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--weights", default="")
    parser.add_argument("--student", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60, help="timed steps, after a quarter as many to warm up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--variant", default="")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of hand-written loops"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    return options


def networks(options: argparse.Namespace) -> tuple[torch.nn.Module, torch.nn.Module]:
    """(teacher, student), the same for everybody."""
    teacher = create_model(options.teacher, num_classes=100)
    if options.weights:
        load_weights(teacher, options.weights)
    student = create_model(options.student, num_classes=100)
    return teacher.eval().requires_grad_(False).to(options.device), student.to(options.device)


def cifar(options: argparse.Namespace) -> Splits:
    """CIFAR-100, all training images."""
    return load_data("cifar100", root=str(options.data), val_fraction=0)


def timed(steps: Iterator[int], options: argparse.Namespace) -> None:
    """Run a loop that yields after every step, and print what came of it as JSON."""
    warm, start = options.steps // 4, 0.0
    for done, _ in enumerate(itertools.islice(steps, warm + options.steps), 1):
        if done == warm:
            wait(options)
            start = time.perf_counter()
    wait(options)
    report(options.steps * options.batch / (time.perf_counter() - start))


def wait(options: argparse.Namespace) -> None:
    """Until the device has done all it was given."""
    if options.device != "cpu":
        torch.cuda.synchronize()


def report(images_per_second: float, workers: bool = True, **more: float) -> None:
    """The last line of a contender's output; memory includes that of its workers, if its processes are such."""
    counted = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)[: 2 if workers else 1]
    peak = sum(resource.getrusage(who).ru_maxrss for who in counted)
    print(json.dumps({"images_per_second": images_per_second, "peak_mb": peak / 1024, **more}))
    sys.stdout.flush()
