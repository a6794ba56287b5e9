"""Every method on CIFAR-100 for some hundred steps: whether its loss falls and stays a number.

    nice -n 19 python benchmarks/methods.py --data FOLDER --weights resnet20.pth [--only kd at] [--threads 1]

Each method trains the same student with the same teacher, its batch norms folded into its convolutions, at the
literature's learning rate. The results are written after every training, and a command that is repeated goes on with
those that are missing or failed. A processor without bfloat16 instructions takes many times longer in bfloat16: there
give --precisions float32, and for bfloat16 fewer steps and another --out. `benchmarks/step_cost.py` measures what a
step takes.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from attar.accel.engine_spec import EngineSpec
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


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet20")
    parser.add_argument("--weights", required=True, help="of the teacher")
    parser.add_argument("--student", default="resnet8")
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


def step(method: Method, learners: dict[str, torch.optim.Optimizer], runtime: Runtime, batch: Batch) -> float:
    """One step of each phase; the total loss of the first."""
    totals = []
    for phase, learner in learners.items():
        learner.zero_grad(set_to_none=True)
        with runtime.computing():
            total = method.batch_losses(replace(batch, phase=phase)).total
        total.backward()
        learner.step()
        totals.append(total.item())
    return totals[0]


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
    """The record of one training: the mean total of its first and last sixth, and whether it fell."""
    runtime = Runtime(torch.device(options.device), precision, "")
    job = Job(recipe_of(options, name), Path("unused"), Console(file=io.StringIO()), shared=shared)
    training = job.training(0)
    training._place()
    method = training.method.train()
    folded = EngineSpec("folded", precision)
    job.engines.attach(method, tuple(folded for _ in method.frozen()))
    learners: dict[str, torch.optim.Optimizer] = {
        phase: torch.optim.SGD(method.trainable(phase), options.lr, 0.9, weight_decay=5e-4) for phase in method.phases
    }
    losses: list[float] = []
    for number, batch in enumerate(batches(training.loader, options.steps)):
        torch.manual_seed(number)
        losses.append(step(method, learners, runtime, batch))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]} at step {number}")
    part = max(options.steps // 6, 1)
    first, last = (statistics.fmean(some) for some in (losses[:part], losses[-part:]))
    return {"first": first, "last": last, "falls": last < first}


def table(methods: dict[str, Any], settings: dict[str, str]) -> Table:
    """The results, one method a row."""
    chosen = [precision for precision in PRECISIONS if any(precision in record for record in methods.values())]
    rows = []
    for name, record in sorted(methods.items()):
        for precision in chosen:
            found = record.get(precision, {})
            if "last" in found:
                fell = "yes" if found["falls"] else "no"
                rows.append([name, precision, f"{found['first']:.4g}", f"{found['last']:.4g}", fell])
            elif found:
                rows.append([name, precision, "", "", found["error"]])
    size = f"{settings['steps']} steps at batch {settings['batch']}"
    title = f"The total loss over {size}: means of the first and last sixth"
    return Table(title, ["method", "precision", "first", "last", "falls"], rows, texts=2)


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    elsewhere = ("data", "weights", "out", "only", "precisions")
    settings = {key: str(value) for key, value in vars(options).items() if key not in elsewhere}
    record: dict[str, Any] = {"environment": environment(), "settings": settings, "methods": {}}
    if options.out.is_file():
        record = json.loads(options.out.read_text(encoding="utf-8"))
        if record["settings"] != settings:
            raise SystemExit(f"{options.out} has other settings ({record['settings']}); give another --out")
    shared = SharedResources()
    for name in options.only or list_methods():
        found = record["methods"].setdefault(name, {})
        for precision in options.precisions:
            if "last" in found.get(precision, {}):
                continue
            try:
                found[precision] = trained(name, precision, options, shared)
            except Exception as error:  # the others go on
                found[precision] = {"error": first_line(error)}
            print(name, precision, found[precision], flush=True)
            write_json(options.out, record)
            results = table(record["methods"], settings)
            pair = f"{options.teacher} to {options.student}, `python benchmarks/methods.py`"
            done = f"{len(record['methods'])} of {len(list_methods())} methods so far."
            text = f"# Methods on CIFAR-100\n\n{results.title} ({pair}). {done}\n\n{results.markdown()}\n"
            write_text(options.out.with_suffix(".md"), text)


if __name__ == "__main__":
    main()
