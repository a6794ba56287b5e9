"""Batches of images that the caller's data set draws anew in every epoch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from attar.batch import Address, Batch
from attar.data.loading.device_loader import DeviceLoader
from attar.data.loading.streaming import as_it_is, ignore_interrupts
from attar.data.sources.drawn import DrawnSet
from attar.data.transforms.augment import Augment
from attar.errors import AttarError


class DrawnLoader(DeviceLoader):
    """A `DeviceLoader` whose images are read for every step, each as its epoch draws it."""

    images: DrawnSet
    _address: Address

    def __init__(self, images: DrawnSet, batch_size: int, augment: Augment | None = None, **settings: Any) -> None:
        super().__init__(images, batch_size, augment, **settings)
        if self.repeats > 1:
            raise AttarError("data.repeats varies images anew, and this data set varies them itself; leave it out")

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch (from 0), from any step on."""
        loader = copy.copy(self)  # several epochs may be under way
        loader._address = Address(self.view_seed, epoch)
        yield from DeviceLoader.epoch(loader, epoch, start_step)

    def _steps_at_once(self) -> int:
        return 1  # as they are read

    def _pixels(self, wanted: list[Tensor]) -> Iterator[Tensor]:
        reader = DataLoader(
            _Items(self.images, self._address),
            batch_sampler=[numbers.tolist() for numbers in wanted],
            num_workers=self.images.workers,
            collate_fn=as_it_is,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=ignore_interrupts,
            # Its own, because torch would draw a seed from the global state.
            generator=torch.Generator(),
        )
        for pixels in reader:
            layout = torch.channels_last if self.channels_last else torch.contiguous_format
            yield pixels.to(self.device, non_blocking=True).contiguous(memory_format=layout)


class _Items(Dataset[Tensor]):
    """What a process needs to read a batch."""

    def __init__(self, images: DrawnSet, address: Address) -> None:
        self.images, self.address = images, address

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Tensor:
        return self.__getitems__([number])

    def __getitems__(self, numbers: list[int]) -> Tensor:
        """(B, C, H, W) bytes."""
        return torch.stack([self.images.read(number, self.address) for number in numbers])
