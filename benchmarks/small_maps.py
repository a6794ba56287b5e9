"""Packed convolutions of small maps: steps of some networks with and without them, interleaved.

    python benchmarks/small_maps.py

Forward and backward in bfloat16, images of 32x32, 16 pairs of steps interleaved in one process. A processor's matrix
units (AMX) compute the positions of a row together, and narrow maps leave most of them idle: at equal arithmetic a
kernel's gradient takes twice as long for maps 8 wide as for 16. Packed, several images share a row, with columns of
zeros between them; the gradients are 0.003 % apart. Without matrix units the same processor took 1.04 to 1.12 times as
long packed, so other processors do not pack. Three minutes before the kept results the first five networks gained 1.64,
1.69, 1.4, 1.12 and 1.04 times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from attar.accel.allocator import keep_freed_memory
from attar.accel.function_override import FunctionOverride
from attar.accel.packed_convolutions import conv2d, matrix_units
from attar.accel.runtime import environment
from attar.models import create_model

NETWORKS = ["vgg8", "vgg13", "resnet18", "resnet50", "resnet8x4", "wrn_16_2", "mobilenetv2", "resnet20"]
WARM = 3


def step(net: nn.Module, images: Tensor, labels: Tensor, in_rows: bool) -> tuple[float, Tensor]:
    """One step's seconds and its gradient."""
    begun = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16), FunctionOverride({torch.conv2d: conv2d}) if in_rows else nullcontext():
        loss = nn.functional.cross_entropy(net(images), labels)
    loss.backward()
    seconds = time.perf_counter() - begun
    gradient = torch.cat([parameter.grad.flatten() for parameter in net.parameters()])
    net.zero_grad(set_to_none=True)
    return seconds, gradient


def phases(name: str, options: argparse.Namespace) -> tuple[list[tuple[float, float]], float]:
    """The seconds of each pair of steps, without rows and with, and how far apart the last two gradients are."""
    torch.manual_seed(0)
    net = create_model(name, num_classes=100, image_size=options.size).to(memory_format=torch.channels_last).train()
    images = torch.randn(options.batch, 3, options.size, options.size).to(memory_format=torch.channels_last)
    labels = torch.arange(options.batch) % 100
    pairs = []
    for _ in range(WARM + options.steps):
        (plain, usual), (rows, other) = (step(net, images, labels, in_rows) for in_rows in (False, True))
        pairs.append((plain, rows))
    return pairs[WARM:], float((other - usual).norm() / usual.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--size", type=int, default=32, help="of the images, pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/small-maps.json"))
    options = parser.parse_args()
    keep_freed_memory()
    networks = {}
    for name in options.networks:
        pairs, apart = phases(name, options)
        networks[name] = {"seconds": pairs, "gradients_apart": apart}
        plain, rows = (1000 * statistics.median(times) for times in zip(*pairs, strict=True))
        first, middle, third = statistics.quantiles([one / other for one, other in pairs], n=4)
        print(
            f"{name:12s} {plain:7.1f} ms a step, in rows {rows:7.1f}: {middle:.2f} times as fast "
            f"({first:.2f} to {third:.2f}), gradients {100 * apart:.2g} % apart"
        )
    settings = {key: getattr(options, key) for key in ("size", "batch", "steps")}
    record = {"environment": environment() | {"matrix units": matrix_units()}, **settings, "networks": networks}
    options.out.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
