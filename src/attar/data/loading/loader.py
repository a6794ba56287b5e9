"""What a loader is, and the right one for a set of images, in memory or in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from attar.batch import Batch, Counts
from attar.data.file_set import FileSet
from attar.data.images import ImageSet, Splits
from attar.data.loading.device_loader import DeviceLoader
from attar.data.loading.drawn_loader import DrawnLoader
from attar.data.loading.streaming import StreamingLoader
from attar.data.loading.tensor_loader import TensorLoader
from attar.data.sources.drawn import DrawnSet
from attar.data.tensor_set import TensorSet, TensorSplits
from attar.data.transforms.mixing import Mixing
from attar.errors import AttarError


class Loader(Protocol):
    """Where batches come from: any step of any epoch, the same each time it is asked for."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]: ...

    def whole(self) -> Any: ...

    def counts(self, epoch: int, step: int) -> Counts: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...


@dataclass
class Wrapped:
    """What a loader around another takes over from it.

    Attributes:
        loader: the other one.
    """

    loader: Loader

    def __post_init__(self) -> None:
        self.batch_size, self.device = self.loader.batch_size, self.loader.device

    def __len__(self) -> int:
        return len(self.loader)

    def whole(self) -> Any:
        """The innermost loader, with whole batches."""
        return self.loader.whole()

    def counts(self, epoch: int, step: int) -> Counts:
        """How much the whole batch of a step holds, over all processes."""
        return self.loader.counts(epoch, step)


# What loaders give batches of.
Samples = ImageSet | TensorSet


def loader_for(images: Samples, batch_size: int, **settings: Any) -> Any:
    """A `StreamingLoader` for files, a `DrawnLoader` for data sets that draw, else a `DeviceLoader`; settings agree.

    For samples of any other kind it is a `TensorLoader`, which takes those that do not speak of images.

    >>> pixels = torch.zeros(10, 1, 8, 8, dtype=torch.uint8)
    >>> ten = ImageSet(pixels, torch.arange(10), tuple("abcdefghij"), "ten", (0.5,), (0.5,))
    >>> len(loader_for(ten, batch_size=3))
    3
    """
    if isinstance(images, TensorSet):
        return TensorLoader(images, batch_size, **settings)
    if isinstance(images, FileSet):
        return StreamingLoader(images, batch_size, **settings)
    if isinstance(images, DrawnSet):
        return DrawnLoader(images, batch_size, **settings)
    return DeviceLoader(images, batch_size, **settings)


def training_loader(
    splits: Splits | TensorSplits,
    batch_size: int,
    *,
    unlabelled: bool = False,
    unlabelled_batch: int | None = None,
    mixing: Mixing | None = None,
    repeats: int = 1,
    views: Mapping[str, Mapping[str, object]] | None = None,
    **settings: Any,
) -> Any:
    """The loader of a training set, with what only images have: augmentation, mixing, images without labels.

    Args:
        splits: the sets.
        batch_size: samples per step.
        unlabelled: whether images without labels join the batches, where there are some.
        unlabelled_batch: how many of them a batch gets.
        mixing: how images are mixed.
        repeats: how many times an epoch shows each of its images.
        views: changes to the augmentation that make further views of each image, by name.
        settings: what every loader takes: seed, device, epochs, view_seed, share.
    """
    if isinstance(splits, TensorSplits):
        if views:
            raise AttarError(f"the method compares views ({', '.join(views)}), which only images have; choose another")
        return loader_for(splits.train, batch_size, **settings)
    return loader_for(
        splits.train,
        batch_size,
        augment=splits.augment,
        channels_last=True,
        unlabelled=splits.unlabelled if unlabelled else None,
        unlabelled_batch=unlabelled_batch,
        mixing=mixing,
        repeats=repeats,
        views={name: splits.augment.changed(changes) for name, changes in (views or {}).items()},
        **settings,
    )


def eval_batches(
    images: Samples, batch_size: int, device: torch.device | str = "cpu", channels_last: bool = False
) -> Iterator[Batch]:
    """Every image of a set once, in order and unvaried; a batch size above the set's means one batch.

    Raises:
        AttarError: the batch size is below 1, or the set is empty.
    """
    settings: dict[str, Any] = {"device": device, "shuffle": False}
    if isinstance(images, ImageSet):
        settings["channels_last"] = channels_last
    if isinstance(images, FileSet):
        settings["stand_ins"] = False
    return loader_for(images, min(batch_size, len(images)), **settings).epoch(0)
