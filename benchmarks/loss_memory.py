"""How much memory the losses of every method take at a batch of 1,024, beside what the networks put out.

    python benchmarks/loss_memory.py [--only kd sp] [--batch 1024]

The networks run once, and what they put out becomes the leaves of a graph of its own: what is counted is the bytes of
the tensors that are alive at one moment of the edges' losses (with the regressors they go through) and of their
backward pass, beyond the leaves. The same at half the batch shows how it grows: 2 is linear, 4 is a matrix between all
images of the batch. The bytes are exact and hang on no clock; what a kernel keeps to itself is not counted. The results
are written after every method, and a command that is repeated goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attar.batch import Address, Batch
from attar.conformance.cases import networks_of
from attar.knowledge import Knowledge, Value, total_loss
from attar.methods import Method, create_method, method_info
from attar.models import create_model
from attar.profiling.memory import Alive
from attar.report.tables import Table
from every_method import measure_every

RESULTS = Path(__file__).parent / "results" / "loss-memory.json"
# As many as CIFAR-100 has, for methods with a memory of every image.
IMAGES, CLASSES, SIDE = 50_000, 100, 16
MB = 2**20


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet14")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--only", nargs="+", help="these methods, measured again; default: all that are missing")
    return parser.parse_args()


def built(name: str, options: argparse.Namespace) -> Method:
    """A method around two networks of small images; of transformers where it compares their layers."""
    torch.manual_seed(0)
    info = method_info(name)
    if "layers" in info.needs:
        teacher, student = networks_of("classification", name)()
    else:
        teacher, student = (create_model(net, CLASSES, image_size=SIDE) for net in (options.teacher, options.student))
    method = create_method(
        name,
        teacher=teacher if info.takes_teacher else None,
        student=student,
        image_shape=(3, SIDE, SIDE),
        **({"batch_size": options.batch} if "batch_size" in info.defaults else {}),
    )
    classes = student(torch.zeros(2, 3, SIDE, SIDE)).shape[1]
    method.setup(torch.arange(IMAGES) % classes)
    return method.train()


def batch_of(size: int, method: Method) -> Batch:
    """A batch of noise in epoch 150 of 240, when every edge has its weight: warm-ups are over, no decay has begun."""
    images = torch.randn(size, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    labels, index = torch.arange(size) % 6, torch.arange(size)
    views = dict.fromkeys(method.views(), images + 0.1)
    return Batch(images, labels, index, Address(0, 149, 0), 240, views=views, output=method.task.output)


def leaf(value: Value) -> Value:
    """What the networks put out, without the graph behind it."""
    if not isinstance(value, Tensor):
        return tuple(part.detach().requires_grad_(part.requires_grad) for part in value)
    return value.detach().requires_grad_(value.requires_grad)


def loss_bytes(method: Method, size: int) -> int:
    """The most bytes alive at one moment of the losses of a batch and their backward pass, of the phase with most."""
    most = 0
    for phase in method.phases:
        batch = replace(batch_of(size, method), phase=phase)
        edges = method.edges
        outputs = method.knowledge(batch)
        known = Knowledge(batch)
        for name in outputs:
            if name != "labels":
                known.add(name, leaf(outputs[name]))
        del outputs
        kept = [part for name in known for part in ([known[name]] if isinstance(known[name], Tensor) else known[name])]
        with Alive([*kept, *method.parameters(), *method.buffers()]) as alive:
            total_loss(known, edges).total.backward()
        method.zero_grad(set_to_none=True)
        most = max(most, alive.peak)
    return most


def measured(name: str, options: argparse.Namespace) -> dict[str, float]:
    """The record of one method: megabytes at half the batch and at the whole."""
    method = built(name, options)
    half, whole = (loss_bytes(method, size) for size in (options.batch // 2, options.batch))
    return {"half": round(half / MB, 2), "whole": round(whole / MB, 2), "growth": round(whole / max(half, 1), 2)}


def table(methods: dict[str, Any]) -> Table:
    """The results, one method a row, those with most first."""
    ranked = sorted(methods.items(), key=lambda item: -item[1]["whole"])
    rows = [[name, f"{one['half']:.1f}", f"{one['whole']:.1f}", f"{one['growth']:.2f}"] for name, one in ranked]
    return Table("Memory of a step's losses", ["method", "MB at half", "MB at the whole batch", "quotient"], rows)


def main() -> None:
    options = arguments()
    settings = {key: getattr(options, key) for key in ("teacher", "student", "batch")} | {"images": SIDE}
    what = (
        f"{options.teacher} to {options.student}, images of {SIDE}x{SIDE}, batch {options.batch}, float32; "
        "`python benchmarks/loss_memory.py`"
    )
    measure_every(
        RESULTS, settings, options.only, partial(measured, options=options), table, "Memory of the losses", what
    )


if __name__ == "__main__":
    main()
