"""How many images a second reach a network: Attar's loaders beside torchvision's and timm's, on the same task.

    ATTAR_DATA=... python benchmarks/loaders.py --out loaders.json
    python benchmarks/loaders.py --photographs FOLDER/WITH/train

Photographs: random-resized-crop to 112, flip, normalise, batches of 64. CIFAR's size: pad 4, crop 32, flip, normalise,
batches of 128. Repetitions are interleaved, so that what else the machine does falls on all alike; each is one pass
after a first one that is not counted (processes start, memory fills). The table gives the median and the spread.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from attar.batch import Batch
from attar.data import Augment, DeviceLoader, ImageSet, StreamingLoader, load_data
from attar.files import write_json
from attar.models.libraries.imports import import_timm, import_torchvision

SIZE, STORED, BATCH = 112, 128, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_COUNT, CIFAR_BATCH = 10_000, 128
# A pass gives the batches of one epoch; they are counted and thrown away.
Pass = Callable[[int], Iterable[Any]]


def photograph_passes(root: Path, workers: int) -> dict[str, Pass]:
    """Every loader of an image folder, with and without worker processes."""
    augment = Augment(resized_crop=True, flip=True)
    reading = {"root": root, "image_size": SIZE, "resize_size": STORED, "val_fraction": 0}
    held = DeviceLoader(load_data("folder", **reading, in_memory=True).train, BATCH, augment, channels_last=True)
    files = load_data("folder", **reading, in_memory=False).train
    passes: dict[str, Pass] = {"attar, in memory": held.epoch}
    for number in (0, workers):
        streamed = StreamingLoader(files, BATCH, augment, workers=number, channels_last=True)
        passes[f"attar, streaming, {number} workers"] = streamed.epoch
        passes[f"torchvision, {number} workers"] = repeated(torchvision_loader(root / "train", number))
        passes[f"timm, {number} workers"] = repeated(timm_loader(root / "train", number))
    return passes


def torchvision_loader(root: Path, workers: int) -> Iterable[Any]:
    """ImageFolder, the usual transforms on Pillow images, and torch's loader."""
    import_torchvision()
    from torchvision import datasets, transforms

    steps = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    change = transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])
    return torch_loader(datasets.ImageFolder(str(root), change), BATCH, workers)


def timm_loader(root: Path, workers: int) -> Iterable[Any]:
    """timm's own loader with its training transforms, without colour jitter; its prefetcher is for GPUs."""
    import_timm()
    from timm.data import create_dataset, create_loader

    dataset = create_dataset("", root=str(root), is_training=True)
    return create_loader(
        dataset,
        input_size=(3, SIZE, SIZE),
        batch_size=BATCH,
        is_training=True,
        use_prefetcher=False,
        color_jitter=None,
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=False,
        device=torch.device("cpu"),
    )


def cifar_passes(workers: int) -> dict[str, Pass]:
    """Random bytes of CIFAR's shape: the work does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (CIFAR_COUNT, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images = ImageSet(pixels, torch.arange(CIFAR_COUNT) % 100, tuple(map(str, range(100))), "cifar-sized", MEAN, STD)
    held = DeviceLoader(images, CIFAR_BATCH, Augment(crop_padding=4, flip=True), channels_last=True)
    passes: dict[str, Pass] = {"attar, in memory": held.epoch}
    for number in (0, workers):
        passes[f"torchvision, {number} workers"] = repeated(torch_loader(PerSample(pixels), CIFAR_BATCH, number))
    return passes


class PerSample(torch.utils.data.Dataset):
    """Image by image through Pillow, as torchvision's CIFAR does it."""

    def __init__(self, pixels: torch.Tensor) -> None:
        import_torchvision()
        from torchvision import transforms

        self.pixels = pixels.permute(0, 2, 3, 1).contiguous().numpy()
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        self.change = transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.change(Image.fromarray(self.pixels[number])), number % 100


def torch_loader(dataset: Any, batch: int, workers: int) -> Iterable[Any]:
    """torch's loader as it is usually called."""
    return torch.utils.data.DataLoader(
        dataset, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )


def repeated(loader: Iterable[Any]) -> Pass:
    """A loader that begins anew every epoch."""
    return lambda epoch: loader


def measure(passes: dict[str, Pass], repetitions: int, batches: int | None) -> dict[str, list[float]]:
    """Images a second of every pass, each repetition of one beside one of every other."""
    rates: dict[str, list[float]] = {name: [] for name in passes}
    for repetition in range(repetitions + 1):
        for name, one in passes.items():
            start, count = time.perf_counter(), 0
            for step, batch in enumerate(one(repetition)):
                count += len(batch if isinstance(batch, Batch) else batch[1])
                if step + 1 == batches:
                    break
            if repetition:
                rates[name].append(count / (time.perf_counter() - start))
    return rates


def summary(rates: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Median, extremes, and the median ratio to the first within a repetition."""
    first = next(iter(rates.values()))
    return {
        name: {
            "median": statistics.median(found),
            "least": min(found),
            "most": max(found),
            "first_is_faster_by": statistics.median(a / b for a, b in zip(first, found, strict=True)),
            "all": found,
        }
        for name, found in rates.items()
    }


def table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    """The summary in Markdown."""
    lines = [f"| {title} | images/s | spread | the first is faster by |", "|---|---:|---:|---:|"]
    for name, row in rows.items():
        spread = f"{row['least']:,.0f} to {row['most']:,.0f}"
        lines.append(f"| {name} | {row['median']:,.0f} | {spread} | {row['first_is_faster_by']:.2f} |")
    return "\n".join(lines)


def unpacked(place: Path) -> Path:
    """The photographs of ATTAR_DATA as an image folder."""
    source = os.environ.get("ATTAR_DATA")
    if not source:
        sys.exit("give --photographs FOLDER (with train/CLASS/IMAGE in it), or set ATTAR_DATA")
    subprocess.run([sys.executable, Path(source) / "unpack.py", "imagenette", place], check=True, capture_output=True)
    return place / "imagenette128"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="an image folder with train/ and val/")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batches", type=int, help="stop each pass after so many batches")
    parser.add_argument("--out", type=Path, help="a JSON file for every number")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = given.photographs or unpacked(Path(scratch))
        found = {
            "photographs, 112 px, batch 64": photograph_passes(root, given.workers),
            "CIFAR's size, batch 128": cifar_passes(given.workers),
        }
        results = {title: summary(measure(passes, given.repetitions, given.batches)) for title, passes in found.items()}
    machine = {"processor": platform.processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    for title, rows in results.items():
        print(table(title, rows), end="\n\n")
    if given.out:
        write_json(given.out, {"machine": {**machine, "load": os.getloadavg(), "torch": torch.__version__}, **results})


if __name__ == "__main__":
    main()
