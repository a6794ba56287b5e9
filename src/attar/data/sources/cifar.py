"""CIFAR-10 and CIFAR-100 from the published python archives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from attar.data.images import ImageSet, Splits
from attar.data.registry import register_dataset
from attar.data.sources.download import check_md5, data_root, fetch, unpack
from attar.data.sources.safe_pickle import load_pickle
from attar.errors import AttarError

SITE = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class Cifar:
    """One of the two sets: its archive, the files in it, and the statistics the literature normalises with."""

    name: str
    archive: str
    folder: str
    md5: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    label_names: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that must be there."""
        return (*self.train, self.test, self.meta)


CIFAR10 = Cifar(
    name="cifar10",
    archive="cifar-10-python.tar.gz",
    folder="cifar-10-batches-py",
    md5="c58f30108f718f92721af3b95e74349a",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    meta="batches.meta",
    labels="labels",
    label_names="label_names",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
CIFAR100 = Cifar(
    name="cifar100",
    archive="cifar-100-python.tar.gz",
    folder="cifar-100-python",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    train=("train",),
    test="test",
    meta="meta",
    labels="fine_labels",
    label_names="fine_label_names",
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
)


@register_dataset("cifar10", title="CIFAR-10", source=SITE + "cifar.html", flip=True)
def cifar10(root: Path | None, download: bool, image_size: int | None) -> Splits:
    """60,000 colour images of 32x32 pixels in 10 classes, 10,000 of them for testing; see `load_cifar`."""
    return load_cifar(CIFAR10, root, download)


@register_dataset("cifar100", title="CIFAR-100", source=SITE + "cifar.html", flip=True)
def cifar100(root: Path | None, download: bool, image_size: int | None) -> Splits:
    """60,000 colour images of 32x32 pixels in 100 classes, 10,000 of them for testing; see `load_cifar`."""
    return load_cifar(CIFAR100, root, download)


def load_cifar(cifar: Cifar, root: Path | None, allow_download: bool) -> Splits:
    """Read the published files.

    Args:
        cifar: which of the two.
        root: the unpacked folder, or the folder that holds it or the archive; None: where downloads are kept.
        allow_download: fetch the archive into `root` when nothing is there.

    Raises:
        AttarError: the files are not there and cannot be downloaded, or are damaged.
    """
    folder = _locate(cifar, root or data_root(), allow_download)
    meta = load_pickle(folder / cifar.meta)
    names = meta.get(cifar.label_names) if isinstance(meta, dict) else None
    if not isinstance(names, list):
        raise _damaged(folder / cifar.meta, f"no {cifar.label_names}")
    train = [_read(cifar, folder / file, len(names)) for file in cifar.train]
    test = [_read(cifar, folder / cifar.test, len(names))]
    return Splits(_image_set(cifar, train, tuple(names)), _image_set(cifar, test, tuple(names)))


def _locate(cifar: Cifar, root: Path, allow_download: bool) -> Path:
    """The unpacked folder, unpacked or fetched first where need be."""
    for folder in (root, root / cifar.folder):
        if all((folder / file).is_file() for file in cifar.files):
            return folder
    archive = root / cifar.archive
    if archive.is_file():
        check_md5(archive, cifar.md5, archive)
    elif allow_download:
        fetch(SITE + cifar.archive, archive, cifar.md5)
    else:
        raise AttarError(
            f"{cifar.name} is not in {root}: expected {cifar.folder}/ or {cifar.archive} there; "
            "give the folder that has it as data.root=, or allow the download"
        )
    return unpack(archive, cifar.folder)


def _read(cifar: Cifar, file: Path, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 3, 32, 32) and labels (N,) of one file."""
    record = load_pickle(file)
    if not isinstance(record, dict) or not {"data", cifar.labels} <= record.keys():
        raise _damaged(file, f"no data or no {cifar.labels}")
    data, labels = record["data"], record[cifar.labels]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != (len(labels), 3072):
        raise _damaged(file, "its images are not one row of 3072 bytes a label")
    if not all(isinstance(label, int) and 0 <= label < classes for label in labels):
        raise _damaged(file, f"its labels are not 0..{classes - 1}")
    return torch.from_numpy(data).view(-1, 3, 32, 32), torch.tensor(labels)


def _image_set(cifar: Cifar, parts: list[tuple[torch.Tensor, torch.Tensor]], classes: tuple[str, ...]) -> ImageSet:
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return ImageSet(images, labels, classes, cifar.name, cifar.mean, cifar.std)


def _damaged(file: Path, reason: str) -> AttarError:
    return AttarError(f"{file} is damaged ({reason}); delete it and load again")
