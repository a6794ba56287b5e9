"""A frozen teacher's forward pass in bfloat16 and in eight bits, with and without features, interleaved.

    python benchmarks/teacher_engines.py

A pass of the folded bfloat16 network and one of the 8-bit network, on one batch of noise of 32x32 pixels, follow each
other, and the quotient of each pair counts: its median and quartiles are printed and written. "stage2" reads the
feature of a hint beside the logits, "stage2, cut" reads it alone and ends there, "every stage" is what attention
transfer reads. Times are those of the processor, of one thread, so that what else runs on the machine counts little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from attar.accel.engine_spec import INT8, EngineSpec
from attar.accel.runtime import environment
from attar.data import ImageSet
from attar.files import write_json
from attar.models import Engine, create_model
from attar.teachers.selection import Engines

RESULTS = Path(__file__).parent / "results" / "teacher-engines.json"
NETWORKS = ["resnet56", "resnet32x4"]
READ: dict[str, tuple[tuple[str, ...], bool]] = {
    "logits": ((), False),
    "stage2": (("stage2",), False),
    "stage2, cut": (("stage2",), True),
    "every stage": (("stage1", "stage2", "stage3"), False),
}
WARM = 2


def noise(count: int) -> ImageSet:
    """Images that calibrate; what they show does not change the time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    classes = tuple(map(str, range(100)))
    return ImageSet(images, torch.arange(count) % 100, classes, "noise", (0.5,) * 3, (0.25,) * 3)


def seconds(engine: Engine, images: torch.Tensor, taps: tuple[str, ...]) -> float:
    """The processor's seconds of one pass, under autocast as in training."""
    begun = time.process_time()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        engine(images, taps)
    return time.process_time() - begun


def pairs(engines: Engines, name: str, what: str, options: argparse.Namespace) -> list[tuple[float, float]]:
    """The seconds of each pair of passes, in bfloat16 and in eight bits; which is first changes from pair to pair."""
    taps, cut = READ[what]
    torch.manual_seed(0)
    net = create_model(name, num_classes=100).eval().requires_grad_(False)
    images = torch.randn(options.batch, 3, 32, 32).to(memory_format=torch.channels_last)
    specs = (EngineSpec("folded", "bfloat16"), INT8)
    both = [engines.make(net, replace(spec, cut=cut)) for spec in specs]
    found = []
    for number in range(WARM + options.pairs):
        order = both if number % 2 else both[::-1]
        took = {engine.name: seconds(engine, images, taps) for engine in order}
        found.append((took[both[0].name], took[both[1].name]))
    return found[WARM:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    engines, networks = Engines(noise(256)), {}
    for name in options.networks:
        networks[name] = {what: pairs(engines, name, what, options) for what in READ}
        for what, found in networks[name].items():
            usual, eight = (1000 * statistics.median(times) for times in zip(*found, strict=True))
            first, middle, third = statistics.quantiles([one / other for one, other in found], n=4)
            print(
                f"{name:12s} {what:12s} bfloat16 {usual:6.1f} ms, eight bits {eight:6.1f} ms: {middle:.2f} times as "
                f"fast ({first:.2f} to {third:.2f})"
            )
    settings = {"batch": options.batch, "pairs": options.pairs, "load": round(os.getloadavg()[0], 1)}
    write_json(options.out, {"environment": environment(), **settings, "seconds": networks})


if __name__ == "__main__":
    main()
