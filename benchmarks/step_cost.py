"""What a step of every method costs beside a step of `kd`, and how many parameters it trains beside the student's.

    python benchmarks/step_cost.py [--only kd at] [--pairs 7]

A step is one forward and backward pass of every phase and its optimiser's step, on one batch of noise. A step of the
method and one of `kd` follow each other in turns, and the quotient of each pair counts: its quartiles are what is
written. Times are those of the processor, of one thread, so that what else runs on the machine counts little; the load
is written beside them. "live" computes the teacher in each step; "cached" is what is left where the teacher's logits
are known, for methods that read nothing else of it, against `kd` with known logits. A method that compares the layers
of transformers is measured, as its kd, between two small ViTs. The results are written after every method, and a
command that is repeated goes on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from attar.batch import Address, Batch
from attar.files import write_json
from attar.methods import Method, create_method, method_info
from attar.models import create_model
from attar.report.tables import Table
from attar.teachers.usage import teacher_usage
from every_method import measure_every

RESULTS = Path(__file__).parent / "results" / "step-cost.json"
# What the package shows (`attar methods`): the medians alone.
SHOWN = Path(__file__).parents[1] / "src" / "attar" / "report" / "step_cost.json"
# As many as CIFAR-100 has, for methods with a memory of every image.
IMAGES, CLASSES = 50_000, 100
WARM = 2
TRANSFORMER: dict[str, Any] = {"patch_size": 4, "embed_dim": 64, "num_heads": 2, "input_size": 32}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet20")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--only", nargs="+", help="these methods, measured again; default: all that are missing")
    return parser.parse_args()


class Steps:
    """A method with its optimisers.

    Args:
        name: of the method.
        options: the arguments.
        transformers: between two ViTs of 6 and 3 blocks, in place of the networks in the arguments.

    Attributes:
        extra: how many parameters it trains beside the student's.
    """

    def __init__(self, name: str, options: argparse.Namespace, transformers: bool = False) -> None:
        torch.manual_seed(0)
        if transformers:
            teacher, student = (
                create_model("timm/vit_tiny_patch16_224", CLASSES, depth=depth, **TRANSFORMER) for depth in (6, 3)
            )
        else:
            teacher, student = (create_model(net, num_classes=CLASSES) for net in (options.teacher, options.student))
        own = sum(parameter.numel() for parameter in student.parameters())
        given = {"teacher": teacher} if method_info(name).takes_teacher else {}
        self.method: Method = create_method(name, student=student, **given).train()
        self.method.setup(torch.arange(IMAGES) % CLASSES)
        self.extra = sum(p.numel() for p in self.method.parameters() if p.requires_grad) - own
        self.learners = {
            phase: torch.optim.SGD(self.method.trainable(phase), 0.01, 0.9) for phase in self.method.phases
        }
        self.batch = batch_of(options.batch, tuple(self.method.views()))

    def __call__(self) -> float:
        """One step, and its seconds of the processor."""
        begun = time.process_time()
        for phase, learner in self.learners.items():
            learner.zero_grad(set_to_none=True)
            self.method.batch_losses(replace(self.batch, phase=phase)).total.backward()
            learner.step()
        return time.process_time() - begun

    @property
    def cacheable(self) -> bool:
        """Whether logits of the batch's own images are all that it reads of its teachers."""
        read = teacher_usage(self.method, self.batch)
        return bool(read) and all(one.own_images and not one.taps for one in read)

    def cache(self) -> None:
        """From now on the teachers' logits are known."""
        for frozen in self.method.frozen():
            frozen.set_output(self.batch.inputs, frozen(self.batch.inputs))


def batch_of(size: int, views: tuple[str, ...]) -> Batch:
    """A batch of noise in epoch 150 of 240, when every edge has its weight: warm-ups are over, no decay has begun."""
    images = torch.randn(size, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(size) % CLASSES
    return Batch(images, labels, torch.arange(size), Address(0, 149, 0), 240, views=dict.fromkeys(views, images + 0.1))


def quartiles(own: Steps, kd: Steps, pairs: int) -> list[float]:
    """Of the quotients of steps that follow each other; which of the two is first changes from pair to pair."""
    quotients = []
    for number in range(WARM + pairs):
        if number % 2:
            theirs, mine = kd(), own()
        else:
            mine, theirs = own(), kd()
        if number >= WARM:
            quotients.append(mine / theirs)
    return [round(value, 3) for value in statistics.quantiles(quotients, n=4)]


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The record of one method."""
    transformers = "layers" in method_info(name).needs
    own, kd = Steps(name, options, transformers), Steps("kd", options, transformers)
    record: dict[str, Any] = {"live": quartiles(own, kd, options.pairs), "extra": own.extra}
    if own.cacheable:
        own.cache()
        kd.cache()
        record["cached"] = quartiles(own, kd, options.pairs)
    return record | {"load": round(os.getloadavg()[0], 1)}


def table(methods: dict[str, Any]) -> Table:
    """The results, one method a row."""
    rows = []
    for name, record in sorted(methods.items()):
        times = [
            f"{record[key][1]:.2f} ({record[key][0]:.2f} to {record[key][2]:.2f})" if key in record else ""
            for key in ("live", "cached")
        ]
        rows.append([name, *times, f"{record['extra']:,}", f"{record['load']:.1f}"])
    columns = ["method", "teacher computed", "logits cached", "further parameters", "load"]
    return Table("A step over a step of kd: median and quartiles", columns, rows)


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    settings = {key: getattr(options, key) for key in ("teacher", "student", "batch", "pairs")}
    what = (
        f"{options.teacher} to {options.student}, batch {options.batch}, one thread; internal: two small ViTs; "
        "`python benchmarks/step_cost.py`"
    )
    measuring = partial(measured, options=options)
    methods = measure_every(RESULTS, settings, options.only, measuring, table, "The cost of a step", what)
    write_json(SHOWN, {name: {"step": one["live"][1], "extra": one["extra"]} for name, one in sorted(methods.items())})


if __name__ == "__main__":
    main()
