"""Batches from image files that do not fit into memory: read by processes of their own, varied on the device."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from attar.batch import Batch
from attar.data.file_set import FileSet
from attar.data.images import NO_LABEL
from attar.data.loading.device_loader import DeviceLoader
from attar.data.transforms.augment import Augment
from attar.decoding import require_pillow
from attar.errors import AttarError

MOST_WORKERS = 8
# Per set; one in a hundred of a smaller set is still one image.
MOST_UNREADABLE, AT_LEAST = 0.01, 100


class Unreadable(NamedTuple):
    """An image that cannot be read: its number, why, and whether another of its class could stand in."""

    number: int
    reason: str
    replaced: bool


Read = tuple[Tensor, list[Unreadable]]


class StreamingLoader(DeviceLoader):
    """A `DeviceLoader` whose bytes come from files: the same batches, bit for bit, from processes that read ahead.

    Every file is decoded (JPEG at a reduced scale) straight to the size the set is stored at; batches of bytes cross
    over in shared memory, and everything random happens on the device, addressed as in `DeviceLoader`. So neither the
    number of processes nor a restart in the middle of an epoch changes a batch. Processes are torch's: they start
    with the first epoch, as the platform's default has it, live as long as the loader, and end with it.

    An image that cannot be read is named once in a warning, and the next readable one of its class stands in for it,
    the same one in every epoch and run; in evaluation it is left out. Only up to 1 % of a set (one image of a smaller
    one than a hundred) is tolerated. Images without a label stand in for each other.

    Args:
        images: the files.
        batch_size: images per step.
        augment: how images are varied; None: not at all.
        workers: how many processes read; 0: the main one; None: the set's number, or one a processor core less
            one for the networks, at most 8.
        stand_ins: whether unreadable images are replaced by others; otherwise batches lack them.
        settings: the further arguments of `DeviceLoader`.

    Raises:
        AttarError: as in `DeviceLoader`, or images are to be mixed without stand-ins; while it runs, when too many
            images cannot be read.
    """

    images: FileSet

    def __init__(
        self,
        images: FileSet,
        batch_size: int,
        augment: Augment | None = None,
        *,
        workers: int | None = None,
        stand_ins: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(images, batch_size, augment, **settings)
        require_pillow()
        self.workers = next((n for n in (workers, images.workers) if n is not None), default_workers())
        self.stand_ins = stand_ins
        if self.mixing and not stand_ins:
            raise AttarError("images are mixed in training, which stand_ins=False is not for; leave one of the two out")
        self.unreadable: dict[int, str] = {}
        self._files = _Files(*cast(list[FileSet], self._sets))
        self._idle: DataLoader[Read] | None = None

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch (from 0), from any step on."""
        for batch in super().epoch(epoch, start_step):
            kept = batch if self.stand_ins else self._readable(batch)
            if len(kept):
                yield kept

    def _readable(self, batch: Batch) -> Batch:
        """The batch without the images that could not be read."""
        assert batch.index is not None
        numbers = batch.index.tolist() if self.unreadable else []
        if self.unreadable.keys().isdisjoint(numbers):
            return batch
        keep = torch.tensor([number not in self.unreadable for number in numbers], device=self.device)
        return batch.rows(keep)

    def _steps_at_once(self) -> int:
        return 1  # as they are read

    def _pixels(self, wanted: list[Tensor]) -> Iterator[Tensor]:
        # Borrowed, so that an epoch that begins before another has ended gets processes of its own.
        pool: DataLoader[Read] | None
        pool, self._idle = self._idle or self._pool(), None
        assert isinstance(pool.batch_sampler, _Steps)
        pool.batch_sampler.steps = [numbers.tolist() for numbers in wanted]
        try:
            for pixels, unreadable in pool:
                self._report(unreadable)
                found = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
                yield found if self.channels_last else found.contiguous()
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            pool = None
            raise AttarError(
                "a process that reads images died; there may be too little (shared) memory: give data.workers=0, "
                "or a smaller batch_size"
            ) from None
        finally:
            self._idle = pool

    def _pool(self) -> DataLoader[Read]:
        return DataLoader(
            self._files,
            batch_sampler=_Steps(),
            num_workers=self.workers,
            collate_fn=as_it_is,
            pin_memory=self.device.type == "cuda",
            persistent_workers=self.workers > 0,
            worker_init_fn=ignore_interrupts,
            # Its own, because torch would draw a seed from the global state.
            generator=torch.Generator(),
        )

    def _report(self, unreadable: list[Unreadable]) -> None:
        """Name every unreadable image once, and stop where there are too many."""
        for number, reason, replaced in unreadable:
            if number in self.unreadable:
                continue
            self.unreadable[number] = reason
            file, labels = self._files.path(number), self._files.labels_text(number)
            if self.stand_ins and not replaced:
                raise AttarError(f"no image {labels} can be read, for example {file} ({reason}); mend or remove it")
            if len(self.unreadable) > MOST_UNREADABLE * max(len(self._files), AT_LEAST):
                first = ", ".join(str(self._files.path(one)) for one in list(self.unreadable)[:3])
                raise AttarError(
                    f"more than {MOST_UNREADABLE:.0%} of the {len(self._files)} images of {self.images.name!r} cannot "
                    f"be read, first {first} ({reason}); mend or remove them"
                )
            remedy = f"the next {labels} stands in" if self.stand_ins else "it is left out"
            warnings.warn(f"cannot read image {file} ({reason}); {remedy}", stacklevel=2)


def default_workers() -> int:
    """A process for each core this one may use, less one for the networks; at least 1, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores - 1, 1), MOST_WORKERS)


class _Steps(Sampler[list[int]]):
    """The image numbers of each step still to come."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


class _Files(Dataset[Read]):
    """What a process needs to read a batch: names, and who stands in for whom; several sets are numbered through."""

    def __init__(self, *sets: FileSet) -> None:
        self.sets = sets
        # The images with the same labels in a circle, in the order of the set; those without a label are one more.
        groups = torch.cat([images.groups for images in sets]).numpy()
        order = np.argsort(groups, kind="stable")
        self.next = np.empty(len(order), np.int64)
        for members in np.split(order, np.cumsum(np.bincount(groups - NO_LABEL))[:-1]):
            self.next[members] = np.roll(members, -1)

    def __len__(self) -> int:
        return len(self.next)

    def labels_text(self, number: int) -> str:
        images, place = self._located(number)
        return images.labels_text(place)

    def path(self, number: int) -> Path:
        images, place = self._located(number)
        return images.path(place)

    def __getitem__(self, number: int) -> Read:
        return self.__getitems__([number])

    def __getitems__(self, numbers: list[int]) -> Read:
        """(B, H, W, 3) bytes, and the numbers of the unreadable images with the reasons."""
        size = self.sets[0].stored_size
        pixels = torch.empty(len(numbers), *size, 3, dtype=torch.uint8)
        unreadable: list[Unreadable] = []
        for place, number in enumerate(numbers):
            pixels[place] = self._read(number, size, unreadable)
        return pixels, unreadable

    def _read(self, number: int, size: tuple[int, int], unreadable: list[Unreadable]) -> Tensor:
        found = self._found(number)
        if isinstance(found, str):
            reason, other = found, int(self.next[number])
            while isinstance(found, str) and other != number:
                found, other = self._found(other), int(self.next[other])
            unreadable.append(Unreadable(number, reason, not isinstance(found, str)))
        return torch.zeros(*size, 3) if isinstance(found, str) else torch.from_numpy(found)

    def _found(self, number: int) -> np.ndarray | str:
        images, place = self._located(number)
        return images.read(place)

    def _located(self, number: int) -> tuple[FileSet, int]:
        """The set that an image is of, and its number there."""
        for images in self.sets[:-1]:
            if number < len(images):
                return images, number
            number -= len(images)
        return self.sets[-1], number


def as_it_is(read: Any) -> Any:
    """A batch that was read whole."""
    return read


def ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process; the main one decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
