"""Every method on CIFAR-100 for some hundred steps: whether its loss falls and stays a number.

    nice -n 19 python benchmarks/methods.py --data FOLDER --weights resnet20.pth [--only kd at] [--threads 1]

Each method trains the same student with the same teacher, its batch norms folded into its convolutions, at the
literature's learning rate. A method that cannot be trained so has a setting of its own, a fifth of the rate, which the
table names (`OTHERWISE`). The results are written after every training, and a command that is repeated goes on with
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
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Setting:
    """What a method is trained with.

    Attributes:
        lr: the learning rate.
        teacher: the teacher's section of a recipe; without weights it is trained with the labels for as many steps.
        student: the student's section.
        name: what the table calls the setting; "" for that of all others.
    """

    lr: float
    teacher: dict[str, Any]
    student: dict[str, Any]
    name: str = ""


def vit(depth: int) -> dict[str, Any]:
    """A small transformer for images of 32 pixels."""
    options = {"patch_size": 4, "embed_dim": 96, "num_heads": 3, "depth": depth}
    return {"name": "timm/vit_tiny_patch16_224", "options": options}


# Changes to the common setting beside the rate, for methods that cannot be trained in it.
OTHERWISE: dict[str, dict[str, Any]] = {
    "ft": {},
    "okd": {},
    "internal": {
        "teacher": vit(6),
        "student": vit(3),
        "name": "timm/vit_tiny_patch16_224 of patch 4, width 96, 3 heads, 6 layers to 3",
    },
}


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


def common(options: argparse.Namespace) -> Setting:
    """The setting of nearly every method."""
    teacher = {"name": options.teacher, "weights": options.weights}
    return Setting(options.lr, teacher, {"name": options.student})


def of_its_own(method: str, setting: Setting) -> Setting:
    """The setting of a method that cannot be trained in the common one."""
    lr, changes = setting.lr / 5, OTHERWISE[method]
    name = "; ".join([f"rate {lr:g}", *([changes["name"]] if changes else [])])
    return replace(setting, **{**changes, "lr": lr, "name": name})


def recipe_of(options: argparse.Namespace, method: str, setting: Setting) -> Recipe:
    """The recipe of one method; a method without a teacher has none."""
    teacher = {"teacher": {"precision": "float32", **setting.teacher}}
    given: dict[str, Any] = teacher if method_info(method).takes_teacher else {}
    return read_recipe(
        **given,
        student=setting.student,
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


def trained(
    name: str, precision: str, options: argparse.Namespace, shared: SharedResources, setting: Setting
) -> dict[str, Any]:
    """The record of one training: the mean total of its first and last sixth, and whether it fell."""
    if setting.teacher.get("weights") or not method_info(name).takes_teacher:
        return train(name, precision, options, shared, setting)[1]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "teacher.pth"
        own = replace(setting, student=setting.teacher)
        torch.save(train("supervised", precision, options, shared, own)[0].deployed().state_dict(), weights)
        found = replace(setting, teacher={**setting.teacher, "weights": str(weights)})
        return train(name, precision, options, shared, found)[1]


def train(
    name: str, precision: str, options: argparse.Namespace, shared: SharedResources, setting: Setting
) -> tuple[Method, dict[str, Any]]:
    """A method after its steps, and its record."""
    runtime = Runtime(torch.device(options.device), precision, "")
    job = Job(recipe_of(options, name, setting), Path("unused"), Console(file=io.StringIO()), shared=shared)
    training = job.training(0)
    training._place()
    method = training.method.train()
    folded = EngineSpec("folded", precision)
    job.engines.attach(method, tuple(folded for _ in method.frozen()))
    training.prepare(job.console)
    learners: dict[str, torch.optim.Optimizer] = {
        phase: torch.optim.SGD(method.trainable(phase), setting.lr, 0.9, weight_decay=5e-4) for phase in method.phases
    }
    losses: list[float] = []
    for number, batch in enumerate(batches(training.loader, options.steps)):
        torch.manual_seed(number)
        losses.append(step(method, learners, runtime, batch))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]} at step {number}")
    part = max(options.steps // 6, 1)
    first, last = (statistics.fmean(some) for some in (losses[:part], losses[-part:]))
    record = {"first": first, "last": last, "falls": last < first}
    return method, record | ({"setting": setting.name} if setting.name else {})


def table(methods: dict[str, Any], settings: dict[str, str]) -> Table:
    """The results, one method a row; the setting is named where it is not that of the others."""
    chosen = [precision for precision in PRECISIONS if any(precision in record for record in methods.values())]
    rows = []
    for name, record in sorted(methods.items()):
        for precision in chosen:
            found = record.get(f"{precision} otherwise", record.get(precision, {}))
            if "last" in found:
                fell = "yes" if found["falls"] else "no"
                numbers = (f"{found['first']:.4g}", f"{found['last']:.4g}")
                rows.append([name, precision, *numbers, fell, found.get("setting", "")])
            elif found:
                rows.append([name, precision, "", "", found["error"], ""])
    size = f"{settings['steps']} steps at batch {settings['batch']}"
    title = f"The total loss over {size}: means of the first and last sixth"
    return Table(title, ["method", "precision", "first", "last", "falls", "setting"], rows, texts=2)


def notes(methods: dict[str, Any]) -> str:
    """Why methods have a setting of their own."""
    lines = [
        f"- {name}: {record[precision]['error'].split('; ')[0]}"
        for name, record in sorted(methods.items())
        for precision in PRECISIONS
        if f"{precision} otherwise" in record
    ]
    if not lines:
        return ""
    return "\n".join(["", "Rows with a setting of their own, in the setting of the others:", "", *lines, ""])


def attempts(name: str, options: argparse.Namespace, found: dict[str, Any]) -> Iterator[tuple[str, str, Setting]]:
    """The trainings of a method that are missing or failed: the key of the record, the precision, the setting."""
    setting = common(options)
    for precision in options.precisions:
        key = f"{precision} otherwise"
        if "last" not in found.get(precision, {}):
            yield precision, precision, setting
        if "error" in found[precision] and name in OTHERWISE and "last" not in found.get(key, {}):
            yield key, precision, of_its_own(name, setting)


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
        for key, precision, setting in attempts(name, options, found):
            try:
                found[key] = trained(name, precision, options, shared, setting)
            except Exception as error:  # the others go on
                found[key] = {"error": first_line(error)}
            print(name, key, found[key], flush=True)
            write_json(options.out, record)
            results = table(record["methods"], settings)
            pair = f"{options.teacher} to {options.student}, `python benchmarks/methods.py`"
            done = f"{len(record['methods'])} of {len(list_methods())} methods so far."
            text = f"# Methods on CIFAR-100\n\n{results.title} ({pair}). {done}\n\n{results.markdown()}\n"
            text += notes(record["methods"])
            write_text(options.out.with_suffix(".md"), text)


if __name__ == "__main__":
    main()
