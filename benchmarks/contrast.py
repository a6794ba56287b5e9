"""CRD's contrast, seconds a step: drawn and gathered negatives, as in its published code, against the full memory bank.

    python benchmarks/contrast.py

Both directions, forward and backward, for a batch of embeddings of CIFAR-100's size; steps of both are interleaved in
one process. The reference draws 16,384 images of other classes per sample with numpy and gathers their embeddings, half
a gigabyte twice a step. Attar scores all images of other classes with one matmul, weighted so that their sum is what
the drawn ones give on average; value and gradient come from one pass over the memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attar.accel.allocator import keep_freed_memory
from attar.accel.runtime import environment
from attar.losses import Contrast
from attar.methods.crd import Memory

IMAGES, CLASSES, WIDTH, NEGATIVES, TEMPERATURE, MOMENTUM = 50_000, 100, 128, 16_384, 0.07, 0.5


class Gathered:
    """Written from the facts known of the published code, two memories in one."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels.numpy()
        self.others = [np.flatnonzero(self.labels != label) for label in range(CLASSES)]
        self.memories = [F.normalize(torch.randn(IMAGES, WIDTH), dim=1) for _ in range(2)]
        self.normalisers = [0.0, 0.0]

    def __call__(self, embeddings: list[Tensor], index: Tensor) -> Tensor:
        drawn = [np.random.choice(self.others[self.labels[own]], NEGATIVES, replace=False) for own in index.tolist()]
        rows = torch.cat([index[:, None], torch.from_numpy(np.stack(drawn))], dim=1)
        total = torch.zeros(())
        for side in (0, 1):
            picked = self.memories[1 - side].index_select(0, rows.view(-1)).view(len(index), -1, WIDTH)
            scores = (torch.bmm(picked, embeddings[side][:, :, None]).squeeze(2) / TEMPERATURE).exp()
            if not self.normalisers[side]:
                self.normalisers[side] = float(scores.detach().mean() * IMAGES)
            p, noise = scores / self.normalisers[side], NEGATIVES / IMAGES
            own, rest = p[:, 0] / (p[:, 0] + noise + 1e-7), noise / (p[:, 1:] + noise + 1e-7)
            total = total - (own.log().sum() + rest.log().sum()) / len(index)
        with torch.no_grad():
            for memory, said in zip(self.memories, embeddings, strict=True):
                moved = MOMENTUM * memory[index] + (1 - MOMENTUM) * said
                memory[index] = F.normalize(moved, dim=1)
        return total


class Dense:
    """Attar's two memories."""

    def __init__(self, labels: Tensor) -> None:
        self.memories = [Memory(Contrast(TEMPERATURE, NEGATIVES), WIDTH, MOMENTUM) for _ in range(2)]
        for memory in self.memories:
            memory.fill(labels)

    def __call__(self, embeddings: list[Tensor], index: Tensor) -> Tensor:
        first, second = embeddings
        return self.memories[0](first, second.detach(), index) + self.memories[1](second, first.detach(), index)


def seconds(way: Callable[[list[Tensor], Tensor], Tensor], labels: Tensor, batch: int) -> float:
    """One step of a way to compute it."""
    index = torch.randperm(len(labels))[:batch]
    said = [torch.randn(batch, WIDTH).requires_grad_() for _ in range(2)]
    begun = time.perf_counter()
    way([F.normalize(one, dim=1) for one in said], index).backward()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/contrast.json"))
    options = parser.parse_args()
    keep_freed_memory()
    labels = torch.arange(IMAGES) % CLASSES
    ways = {"drawn and gathered": Gathered(labels), "attar": Dense(labels)}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for step in range(2 + options.steps):
        for name, way in ways.items():
            spent = seconds(way, labels, options.batch)
            if step >= 2:
                took[name].append(spent)
    ratios = sorted(slow / fast for slow, fast in zip(*took.values(), strict=True))
    for name, all_of_them in took.items():
        print(f"{name:20s} {1000 * statistics.median(all_of_them):7.1f} ms a step")
    print(f"{statistics.median(ratios):.1f} times as fast ({ratios[0]:.1f} to {ratios[-1]:.1f})")
    record = {"environment": environment(), "batch": options.batch, "seconds": took}
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
