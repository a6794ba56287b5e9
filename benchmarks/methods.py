"""Every method on CIFAR-100: whether its loss falls, in float32 and bfloat16, and what a step of it costs.

    nice -n 19 python benchmarks/methods.py --data FOLDER --weights resnet56.pth [--only kd at] [--threads 1]

Each method trains the same student from the same weights of the teacher for some steps at the literature's learning
rate. A step of `kd` on the same batch is timed every few steps, so that the machine's load falls on both; a method's
cost is the median of the quotients, with the teacher computed in each step. The results are written after every
training, and a command that is repeated goes on with those that are missing. A processor without bfloat16 instructions
takes many times longer in bfloat16: give --precisions float32 there, and run the other on a GPU with --device cuda.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from attar.accel.runtime import Runtime, environment
from attar.batch import Batch
from attar.errors import first_line
from attar.experiments.job import Job
from attar.experiments.shared_resources import SharedResources
from attar.files import write_json, write_text
from attar.methods import Method, list_methods, method_info
from attar.recipe import Recipe, read_recipe
from attar.report.tables import Table

PRECISIONS = ("float32", "bfloat16")
# Of CIFAR-100, as the published weights expect.
MEAN, STD = [0.5070, 0.4865, 0.4409], [0.2673, 0.2564, 0.2761]
# A step of kd is timed after so many of the method's.
EVERY = 10
# The first steps, which warm up, are not timed.
WARM = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet56")
    parser.add_argument("--weights", required=True, help="of the teacher")
    parser.add_argument("--student", default="resnet20")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds CIFAR-100")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--threads", type=int, help="of torch; default: as it likes")
    parser.add_argument("--only", nargs="+", help="these methods; default: all")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/methods.json"))
    return parser.parse_args()


def recipe_of(options: argparse.Namespace, method: str) -> Recipe:
    """The recipe of one method; a method without a teacher has none."""
    teacher = {"name": options.teacher, "weights": options.weights, "precision": "float32"}
    return read_recipe(
        **({"teacher": teacher} if method_info(method).takes_teacher else {}),
        student=options.student,
        data={"name": "cifar100", "root": str(options.data), "val_fraction": 0, "mean": MEAN, "std": STD},
        method=method,
        batch_size=options.batch,
        device=options.device,
        epochs=240,
        alone="skip",
    )


class Steps:
    """A method with its optimisers, stepped on batches.

    Attributes:
        seconds: what each step took.
        losses: the total of the first phase at each step.
    """

    def __init__(self, method: Method, runtime: Runtime, lr: float) -> None:
        self.method, self.runtime = method.train(), runtime
        self.learners = {
            phase: torch.optim.SGD(method.trainable(phase), lr, 0.9, weight_decay=5e-4) for phase in method.phases
        }
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def __call__(self, batch: Batch) -> float:
        """One step, and its seconds."""
        begun = time.perf_counter()
        for phase, learner in self.learners.items():
            learner.zero_grad(set_to_none=True)
            with self.runtime.computing():
                total = self.method.batch_losses(replace(batch, phase=phase)).total
            total.backward()
            learner.step()
            if phase == self.method.phases[0]:
                self.losses.append(total.item())
        self.seconds.append(time.perf_counter() - begun)
        return self.seconds[-1]


def batches(loader: Any, count: int) -> Iterator[Batch]:
    """So many batches, of as many epochs as that takes."""
    left = count
    for epoch in range(count):
        for batch in loader.epoch(epoch):
            yield batch
            left -= 1
            if not left:
                return


def trained(name: str, precision: str, options: argparse.Namespace, shared: SharedResources) -> dict[str, Any]:
    """The record of one training."""
    runtime = Runtime(torch.device(options.device), precision, "")
    made = {}
    for one in (name, "kd"):
        job = Job(recipe_of(options, one), Path("unused"), Console(file=io.StringIO()), shared=shared)
        made[one] = job.training(0)
        made[one]._place()
    student = sum(p.numel() for p in job.parts.student(0).parameters())
    extra = sum(p.numel() for p in made[name].method.parameters() if p.requires_grad) - student
    mine = Steps(made[name].method, runtime, options.lr)
    kd = mine if name == "kd" else Steps(made["kd"].method, runtime, options.lr)
    quotients = []
    for number, batch in enumerate(batches(made[name].loader, options.steps)):
        torch.manual_seed(number)
        own = mine(batch)
        if number >= WARM and number % EVERY == 0:
            quotients.append(own / kd(batch) if kd is not mine else 1.0)
        if not math.isfinite(mine.losses[-1]):
            raise FloatingPointError(f"the loss is {mine.losses[-1]} at step {number}")
    part = max(options.steps // 6, 1)
    first, last = (statistics.fmean(some) for some in (mine.losses[:part], mine.losses[-part:]))
    return {"first": first, "last": last, "falls": last < first, "step": statistics.median(quotients), "extra": extra}


def table(methods: dict[str, Any], steps: int) -> Table:
    """The results, one method a row."""
    rows = []
    for name, record in sorted(methods.items()):
        cells = []
        for precision in PRECISIONS:
            found = record.get(precision, {})
            cells.append(f"{found['first']:.3g} to {found['last']:.3g}" if "last" in found else found.get("error", ""))
        rows.append([name, *cells, f"{record['step']:.2f}" if "step" in record else "", f"{record.get('extra', 0):,}"])
    columns = ["method", "loss in float32", "loss in bfloat16", "step (kd = 1)", "further parameters"]
    return Table(f"The loss over {steps} steps, first and last sixth", columns, rows)


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = {
        key: str(value) for key, value in vars(options).items() if key not in ("data", "weights", "out", "only")
    }
    record: dict[str, Any] = {"environment": environment(), "settings": settings, "methods": {}}
    if options.out.is_file():
        record = json.loads(options.out.read_text(encoding="utf-8"))
        if record["settings"] != settings:
            raise SystemExit(f"{options.out} has other settings ({record['settings']}); give another --out")
    shared = SharedResources()
    for name in options.only or list_methods():
        found = record["methods"].setdefault(name, {})
        for precision in options.precisions:
            if precision in found:
                continue
            try:
                found[precision] = trained(name, precision, options, shared)
            except Exception as error:  # the others go on
                found[precision] = {"error": first_line(error)}
            done = [found[one] for one in PRECISIONS if "step" in found.get(one, {})]
            if done:
                found |= {"step": done[0]["step"], "extra": done[0]["extra"]}
            print(name, precision, found[precision], flush=True)
            write_json(options.out, record)
            results = table(record["methods"], options.steps)
            text = f"# Methods on CIFAR-100\n\n{results.title}.\n\n{results.markdown()}\n"
            write_text(options.out.with_suffix(".md"), text)


if __name__ == "__main__":
    main()
