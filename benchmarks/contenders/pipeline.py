"""The usual input pipeline: every image decoded and varied on its own, as a PIL image, by worker processes."""

from __future__ import annotations

import argparse
from typing import Any

import common
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from attar.models.libraries.imports import import_torchvision

import_torchvision()
from torchvision import transforms  # noqa: E402, only importable after the line above beside a CPU torch

WORKERS = 2


class PilCifar(Dataset[tuple[torch.Tensor, int]]):
    """Arrays to PIL images to tensors, one by one."""

    def __init__(self, options: argparse.Namespace) -> None:
        train = common.cifar(options).train
        self.arrays = np.ascontiguousarray(train.images.permute(0, 2, 3, 1).numpy())
        self.labels = train.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(train.mean, train.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def loader(options: argparse.Namespace, **settings: Any) -> DataLoader[Any]:
    return DataLoader(PilCifar(options), options.batch, shuffle=True, num_workers=WORKERS, drop_last=True, **settings)
