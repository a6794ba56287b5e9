"""A data set whose images are drawn anew each time they are read: random crops and the like of the caller's own."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.batch import Address
from attar.data.images import ImageSet
from attar.data.sources.items import pair
from attar.errors import AttarError
from attar.sizes import Size, checked_size, height_width

# Of how many images, about, the bytes go into the fingerprint.
FINGERPRINTED = 8


@dataclass(frozen=True, eq=False)
class DrawnSet(ImageSet):
    """An image set without pixels: an image is read from the caller's data set when a loader asks for it.

    Whatever that draws from torch's, NumPy's or Python's global generator follows from the seed, the epoch and the
    image, so that every epoch has images of its own and a resumed run has the same. `images` has the shape of the set
    and lies on torch's meta device.

    Attributes:
        dataset: gives (image, label) by position.
        places: (N,) the position of every image there.
        workers: how many processes read; 0: the main one.
    """

    dataset: Any = field(default=(), repr=False)
    places: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64), repr=False)
    workers: int = 0

    def read(self, number: int, address: Address) -> Tensor:
        """One image (C, H, W), uint8, as an epoch draws it.

        Raises:
            AttarError: it is no image, or one of another size than the first.
        """
        place = int(self.places[number])
        with drawing(address, place):
            image, _ = pair(self.dataset[place], place)
        if image.shape != self.images.shape[1:]:
            raise AttarError(
                f"image {place} is {tuple(image.shape)}, image 0 is {tuple(self.images.shape[1:])}; bring them to one "
                "size in the data set"
            )
        return image

    def subset(self, index: Tensor) -> DrawnSet:
        """The images at these positions, in this order."""
        return replace(
            self,
            images=torch.empty(len(index), *self.images.shape[1:], dtype=torch.uint8, device="meta"),
            labels=self.labels[index],
            places=self.places[index],
        )

    def resized(self, size: Size) -> DrawnSet:
        """The same set, where its images have this size.

        Raises:
            AttarError: they have another.
        """
        if height_width(checked_size("image_size", size)) != self.image_shape[1:]:
            raise AttarError(f"images of {self.name!r} are drawn at {self.image_shape[1:]}; give another size there")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that follow from the labels and from a few images."""
        digest = hashlib.blake2b(repr((self.classes, self.mean, self.std)).encode(), digest_size=8)
        digest.update(self.labels.numpy().tobytes() + self.places.numpy().tobytes())
        for number in range(0, len(self), max(1, len(self) // FINGERPRINTED)):
            digest.update(self.read(number, Address()).numpy().tobytes())
        return digest.hexdigest()


@contextmanager
def drawing(address: Address, place: int) -> Iterator[None]:
    """The global generators begin where an address puts them, and are as before afterwards."""
    seed = address.generator(f"item/{place}").initial_seed()
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.random.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
