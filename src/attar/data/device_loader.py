"""Batches from a set that lies whole on the device: no workers, no copies, every batch reachable by its address."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from attar.batch import Address, Batch
from attar.data.augment import Augment, crop_and_flip, cut_out_, draw, normalise
from attar.data.images import ImageSet
from attar.errors import AttarError


class DeviceLoader:
    """Shuffled, augmented, normalised batches of an image set.

    The order of an epoch follows from (seed, epoch), and how an image is varied from (seed, epoch, its index), so
    a run resumed in the middle of an epoch sees exactly what the uninterrupted one would, at any batch size and on any
    device. A last batch of a single image joins the one before it: batch norm cannot train on one image.

    Args:
        images: the set; its bytes are kept on the device.
        batch_size: images per step.
        augment: how images are varied; None: not at all.
        seed: where the order and the variation start.
        device: where batches live.
        drop_last: leave out a last batch that is not full.
        shuffle: a new order every epoch; otherwise the set's own.
        epochs: how many epochs the run has, written on every batch.
        channels_last: batches lie in memory pixel by pixel.

    Raises:
        AttarError: the batch size is below 1 or above the number of images, or the padding does not fit the images.

    >>> pixels = torch.zeros(10, 1, 8, 8, dtype=torch.uint8)
    >>> ten = ImageSet(pixels, torch.arange(10), tuple("abcdefghij"), "ten", (0.5,), (0.5,))
    >>> [len(batch) for batch in DeviceLoader(ten, batch_size=3).epoch(0)]
    [3, 3, 4]
    """

    def __init__(
        self,
        images: ImageSet,
        batch_size: int,
        augment: Augment | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        drop_last: bool = False,
        shuffle: bool = True,
        epochs: int = 1,
        channels_last: bool = False,
    ) -> None:
        if not 1 <= batch_size <= len(images):
            raise AttarError(f"batch_size must be 1 to {len(images)}, the images of {images.name!r}, got {batch_size}")
        self.augment = augment or Augment()
        self.augment.check(*images.image_shape[1:])
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self.drop_last = drop_last
        self.shuffle = shuffle
        self.epochs = epochs
        self.channels_last = channels_last
        self._images = images.images.to(self.device)
        self._labels = images.labels.to(self.device)
        self._mean, self._std = (
            255 * torch.tensor(values, device=self.device)[:, None, None] for values in (images.mean, images.std)
        )

    def __len__(self) -> int:
        """Steps in an epoch."""
        full, left = divmod(len(self._images), self.batch_size)
        return full if self.drop_last or left <= 1 else full + 1

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch (from 0), from any step on."""
        address = Address(self.seed, epoch)
        order = self._order(address)
        height, width = self._images.shape[2:]
        moves = draw(self.augment, len(self._images), height, width, address).to(self.device)
        for step in range(start_step, len(self)):
            index = order[self._span(step)]
            images = crop_and_flip(self._images[index], self.augment, moves[index])
            images = normalise(images, self._mean, self._std, self.channels_last)
            if self.augment.cutout:
                images = cut_out_(images, self.augment.cutout, moves[index])
            yield Batch(images, self._labels[index], index, Address(self.seed, epoch, step), self.epochs)

    def _order(self, address: Address) -> torch.Tensor:
        count = len(self._images)
        # Drawn on the CPU, so that every device sees the same order.
        order = torch.randperm(count, generator=address.generator("order")) if self.shuffle else torch.arange(count)
        return order.to(self.device)

    def _span(self, step: int) -> slice:
        start = step * self.batch_size
        last = step == len(self) - 1 and not self.drop_last
        return slice(start, len(self._images) if last else start + self.batch_size)


def eval_batches(
    images: ImageSet, batch_size: int, device: torch.device | str = "cpu", channels_last: bool = False
) -> Iterator[Batch]:
    """Every image of a set once, in order and unvaried; a batch size above the set's means one batch.

    Raises:
        AttarError: the batch size is below 1, or the set is empty.
    """
    batch_size = min(batch_size, len(images))
    return DeviceLoader(images, batch_size, device=device, shuffle=False, channels_last=channels_last).epoch(0)
