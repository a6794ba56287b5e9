"""Batches from a set that lies whole on the device: no workers, no copies, every batch reachable by its address."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.batch import Address, Batch, Counts
from attar.data.images import ImageSet
from attar.data.loading.batch_slice import Part, part_of
from attar.data.transforms.augment import Augment, Moves, centre, crop_and_flip, cut_out_, draw, normalise
from attar.data.transforms.mixing import Mixing
from attar.data.transforms.mixing_partners import Mixer, Reading, neighbours, reading
from attar.data.transforms.own import changed_by_own
from attar.data.transforms.rand_augment import rand_augment
from attar.data.transforms.resized_crop import resized_crop
from attar.errors import AttarError

# Bytes of varied images that are made together on an accelerator.
VARIED_AT_ONCE = 2**25


class DeviceLoader:
    """Shuffled, augmented, normalised batches of an image set.

    The order of an epoch follows from (seed, epoch), and how an image is varied from (seed, epoch, its index), so
    a run resumed in the middle of an epoch sees exactly what the uninterrupted one would, at any batch size and on any
    device. A last batch of a single image joins the one before it: batch norm cannot train on one image.

    Args:
        images: the set; its bytes are kept on the device from the first epoch on.
        batch_size: images per step.
        augment: how images are varied; None: not at all.
        seed: where the order and the variation start.
        device: where batches live.
        drop_last: leave out a last batch that is not full.
        shuffle: a new order every epoch; otherwise the set's own.
        epochs: how many epochs the run has, written on every batch.
        channels_last: batches lie in memory pixel by pixel.
        views: further ways to vary the same images, by name; a batch then has them as `batch.view(name)`. Each view
            has random choices of its own; asking for one changes no other.
        view_seed: seed of the variation in place of `seed`; runs with one view_seed show every image the same way.
        share: (number, of how many) gives only that slice of each batch, as a `Part`; every process of a run has one.
        unlabelled: images without labels. Every batch then ends with some of them, in an order of their own whose
            passes may span epochs; an epoch stays a pass over the labelled images, whose order and variation are those
            without them. Their numbers in `Batch.index` follow those of `images`.
        unlabelled_batch: how many of them a batch gets; None: batch_size, or all of them where they are fewer.
        mixing: how each image is mixed with its neighbour in the epoch's order (`neighbours`), both varied by their own
            choices, all views alike; labels then are probabilities (B, K). Unlabelled images have neighbours among
            themselves. None: not at all.
        repeats: show each image of an epoch so many times, varied differently each time, and only that part of the
            images, so that an epoch has as many steps as without (repeated augmentation, arXiv:1901.09335). The
            copies of two images take turns, so that partners are different images.

    Raises:
        AttarError: the batch size is below 1 or above the number of images, an augmentation does not fit the images, a
            batch has fewer images than there are shares, the unlabelled images are of another size or kind, images
            with several labels are to be mixed, or images are repeated beside unlabelled ones.

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
        views: Mapping[str, Augment] | None = None,
        view_seed: int | None = None,
        share: tuple[int, int] = (0, 1),
        unlabelled: ImageSet | None = None,
        unlabelled_batch: int | None = None,
        mixing: Mixing | None = None,
        repeats: int = 1,
    ) -> None:
        if not 1 <= batch_size <= len(images):
            raise AttarError(f"batch_size must be 1 to {len(images)}, the images of {images.name!r}, got {batch_size}")
        self.augment = augment or Augment()
        # The images of the batch themselves are the view without a name.
        self._views = {"": self.augment, **(views or {})}
        for view in self._views.values():
            view.check(*images.image_shape)
        self.batch_size = batch_size
        self.seed = seed
        self.view_seed = seed if view_seed is None else view_seed
        self.device = torch.device(device)
        self.drop_last = drop_last
        self.shuffle = shuffle
        self.epochs = epochs
        self.channels_last = channels_last
        self.images = images
        self.unlabelled = unlabelled
        # Of each batch, beside `batch_size` labelled ones.
        self.unlabelled_batch = 0
        if unlabelled is not None:
            self.unlabelled_batch = min(batch_size, len(unlabelled)) if unlabelled_batch is None else unlabelled_batch
        self.share = share
        self.mixing = mixing or Mixing()
        self.repeats = repeats
        if self.mixing and images.multilabel:
            raise AttarError(
                f"data.mixup and data.cutmix mix images of one class each, those of {images.name!r} have several; "
                "leave them out"
            )
        self._check_unlabelled()
        self._check_share()
        self._weighed_epoch: int | None = None
        self._weights_until = torch.empty(0)
        self._mean, self._std = (
            255 * torch.tensor(values, device=self.device)[:, None, None] for values in (images.mean, images.std)
        )

    def __len__(self) -> int:
        """Steps in an epoch."""
        full, left = divmod(len(self.images), self.batch_size)
        return full if self.drop_last or left <= 1 else full + 1

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch (from 0), from any step on."""
        pairs = self._order(Address(self.seed, epoch))
        # From where steps are varied together, so that a resumed epoch's images are rounded as the whole one's.
        steps = range(start_step - start_step % self._steps_at_once(), len(self))
        if not steps:
            return
        spans = [self._span(step) for step in steps]
        readings = [self._reading(pairs[:, span]) for span in spans]
        # Brought into the order of reading once, so that a step only cuts slices.
        index = self._images_of(pairs[0]).to(self.device)
        labels = torch.cat([images.labels for images in self._sets])[self._images_of(pairs)].to(self.device)
        varying, numbers = Address(self.view_seed, epoch), torch.cat([one.numbers for one in readings])
        moves = {name: self._draw(name, varying)[numbers].to(self.device) for name in self._views}
        mixer = self._mixer(pairs[0], labels, varying, readings) if self.mixing else None
        for step, span, one, varied in zip(steps, spans, readings, self._varied(readings, moves), strict=True):
            varied, truth = mixer(varied, one.own, span) if mixer else (varied, labels[0, span])
            images = varied.pop("")
            address = Address(self.seed, epoch, step)
            labelled = span.stop - span.start - self.unlabelled_batch if self.unlabelled_batch else None
            batch = Batch(
                images,
                truth,
                index[span],
                address,
                self.epochs,
                views=varied,
                labelled=labelled,
                mixed=bool(self.mixing),
            )
            if step >= start_step:
                yield batch if self.share[1] == 1 else self._part(batch)

    def counts(self, epoch: int, step: int) -> Counts:
        """How much the whole batch of a step holds, over all processes."""
        whole = self._whole_span(step)
        rows = whole.stop - whole.start
        weights = self._class_weights_until(epoch)
        class_weight = None if weights is None else float(weights[whole.stop] - weights[whole.start])
        return Counts(rows, rows - self.unlabelled_batch, class_weight=class_weight)

    @property
    def identity(self) -> str:
        """Loaders with the same one give the same batches."""
        sets = [(type(images).__name__, images.fingerprint) for images in self._sets]
        sizes = (self.batch_size, self.unlabelled_batch, self.drop_last, self.epochs, self.share)
        drawn = (self.seed, self.view_seed, self.shuffle, self.mixing, self.repeats, list(self._views.items()))
        return repr((sets, sizes, drawn, self.channels_last, self.device))

    def whole(self) -> Self:
        """The same loader without shares: it gives the whole batches."""
        loader = copy.copy(self)
        loader.share = (0, 1)
        return loader

    def _varied(self, readings: list[Reading], moves: dict[str, Moves]) -> Iterator[dict[str, Tensor]]:
        """The images that every step reads, varied and normalised, by view."""
        at_once = self._steps_at_once()
        groups = [readings[first : first + at_once] for first in range(0, len(readings), at_once)]
        wanted = [self._images_of(torch.cat([one.numbers for one in group])) for group in groups]
        ends = itertools.accumulate(map(len, wanted))
        for group, end, pixels in zip(groups, ends, self._pixels(wanted), strict=True):
            sizes, read = [len(one.numbers) for one in group], slice(end - len(pixels), end)
            each = {
                name: self._vary(pixels, view, moves[name][read]).split(sizes) for name, view in self._views.items()
            }
            yield from (dict(zip(each, parts, strict=True)) for parts in zip(*each.values(), strict=True))

    def _steps_at_once(self) -> int:
        """How many steps' images are varied together: launching small operations takes a GPU longer than doing them."""
        if self.device.type == "cpu" or self.unlabelled_batch:
            return 1
        floats = self.batch_size * math.prod(self.images.image_shape) * len(self._views)
        return max(1, VARIED_AT_ONCE // (4 * floats))

    def _pixels(self, wanted: list[Tensor]) -> Iterator[Tensor]:
        """The bytes (R, C, H, W) of the images with these numbers, labelled ones first, as they are stored."""
        index = torch.cat(wanted).to(self.device)
        for numbers, rows in zip(wanted, index.split([len(numbers) for numbers in wanted]), strict=True):
            # Counted on the CPU: nothing waits for the device.
            labelled = int((numbers < len(self.images)).sum())
            chosen = self._stored[0].index_select(0, rows[:labelled])
            if self.unlabelled_batch:
                others = rows[labelled:] - len(self.images)
                chosen = torch.cat([chosen, self._stored[1].index_select(0, others)])
            yield chosen.permute(0, 3, 1, 2) if self.channels_last else chosen

    @cached_property
    def _stored(self) -> list[Tensor]:
        """Each set's images on the device, in the memory format of the batches: (N, H, W, C) or (N, C, H, W)."""
        return [
            (one.channels_last.permute(0, 2, 3, 1) if self.channels_last else one.images.contiguous()).to(self.device)
            for one in self._sets
        ]

    @property
    def _sets(self) -> list[ImageSet]:
        """The labelled images and, where there are some, those without labels."""
        return [self.images] if self.unlabelled is None else [self.images, self.unlabelled]

    def _draw(self, view: str, address: Address) -> Moves:
        height, width = self.images.image_shape[1:]
        augment, stored = self._views[view], self.images.stored_size
        moves = draw(augment, self._copies, height, width, address, view, stored)
        if self.unlabelled is None:
            return moves
        # From streams of their own, so that labelled images are varied as they would be without them.
        return moves + draw(augment, len(self.unlabelled), height, width, address, f"unlabelled/{view}", stored)

    def _reading(self, pairs: Tensor) -> Reading:
        """What a step reads for its rows of the epoch's order and their partners, (2, B)."""
        own, partners = pairs
        return reading(own, partners, self._copies) if self.mixing else Reading(own, slice(None), None)

    def _mixer(self, order: Tensor, labels: Tensor, address: Address, readings: list[Reading]) -> Mixer:
        size = self.images.image_shape[1:]
        mixes = self.mixing.draw(self._copies, *size, address)
        if self.unlabelled is not None:
            mixes += self.mixing.draw(len(self.unlabelled), *size, address, "unlabelled/")
        return Mixer(self.mixing, mixes[order].to(self.device), labels, len(self.images.classes), readings)

    def _vary(self, pixels: Tensor, augment: Augment, moves: Moves) -> Tensor:
        """Stored bytes as one view of them that a network sees."""
        height, width = self.images.image_shape[1:]
        if moves.box is not None:
            pixels = resized_crop(pixels, moves.box, (height, width))
        elif self.images.crop:
            pixels = centre(pixels, height, width)
        pixels = crop_and_flip(pixels, augment, moves)
        if moves.changes is not None and moves.signs is not None:
            pixels = rand_augment(pixels, moves.changes, moves.signs, augment.magnitude)
        if moves.own is not None:
            pixels = changed_by_own(pixels, augment, moves.own)
        images = normalise(pixels, self._mean, self._std, self.channels_last)
        return cut_out_(images, augment.cutout, moves) if augment.cutout else images

    def _order(self, address: Address) -> Tensor:
        """(2, N): the images' numbers and their partners', on the CPU, so that every device sees the same order."""
        order = self._permutation(len(self.images), address, "order")
        if self.repeats > 1:
            return self._repeated(order[0])
        if not self.unlabelled_batch:
            return order
        if self.drop_last:
            order = order[:, : len(self) * self.batch_size]
        # Each step's labelled images, then its unlabelled ones.
        ends = [self.batch_size * step for step in range(1, len(self))]
        parts = zip(order.tensor_split(ends, dim=1), self._unlabelled_order(address.epoch), strict=True)
        return torch.cat([rows for step in parts for rows in step], dim=1)

    def _class_weights_until(self, epoch: int) -> Tensor | None:
        """(N + 1,): the sum of the class weights of the images before each place of an epoch's order, on the CPU.

        Mixed images have two classes each, which only their batch knows.
        """
        if self.images.class_weights is None or self.mixing:
            return None
        if self._weighed_epoch != epoch:
            numbers = self._images_of(self._order(Address(self.seed, epoch))[0])
            labelled = numbers < len(self.images)
            labels = self.images.labels[numbers.clamp(max=len(self.images) - 1)]
            weights = torch.tensor(self.images.class_weights, dtype=torch.float64)[labels] * labelled
            self._weights_until = F.pad(weights.cumsum(0), (1, 0))
            self._weighed_epoch = epoch
        return self._weights_until

    def _repeated(self, order: Tensor) -> Tensor:
        """(2, N): of an order the first images with their copies, and partners; copy c of image i is i + c N."""
        count = len(order)
        several = order[: -(-count // self.repeats), None] + count * torch.arange(self.repeats)
        pairs = len(several) // 2 * 2
        # a, b, a, b, ...: neighbours are partners.
        in_turns = several[:pairs].view(-1, 2, self.repeats).transpose(1, 2).flatten()
        own = torch.cat([in_turns, several[pairs:].flatten()])[:count]
        return torch.stack([own, neighbours(own)])

    @property
    def _copies(self) -> int:
        """How many ways of varying an image an epoch draws, of all labelled images together."""
        return len(self.images) * self.repeats

    def _images_of(self, numbers: Tensor) -> Tensor:
        """The images that copies are of; without copies, the images themselves."""
        return numbers if self.repeats == 1 else numbers % len(self.images)

    def _unlabelled_order(self, epoch: int) -> tuple[Tensor, ...]:
        """The numbers of each step's unlabelled images; they follow from how many steps there were before."""
        assert self.unlabelled is not None
        count, taken = len(self.unlabelled), len(self) * self.unlabelled_batch
        first, offset = divmod(epoch * taken, count)
        passes = range(first, first + -(-(offset + taken) // count))
        orders = [self._permutation(count, Address(self.seed, one), "order/unlabelled") for one in passes]
        chosen = torch.cat(orders, dim=1)[:, offset : offset + taken] + len(self.images)
        return chosen.split(self.unlabelled_batch, dim=1)

    def _permutation(self, count: int, address: Address, purpose: str) -> Tensor:
        """(2, count): an order of so many images, and the partner of each."""
        order = torch.randperm(count, generator=address.generator(purpose)) if self.shuffle else torch.arange(count)
        return torch.stack([order, neighbours(order)])

    def _whole_span(self, step: int) -> slice:
        size, more = self.batch_size, self.unlabelled_batch
        last = step == len(self) - 1 and not self.drop_last
        labelled = len(self.images) - step * size if last else size
        return slice(step * (size + more), step * (size + more) + labelled + more)

    def _span(self, step: int) -> slice:
        """The rows of an epoch's order that belong to a step, or this share of them."""
        whole = self._whole_span(step)
        part = part_of(whole.stop - whole.start, *self.share)
        return slice(whole.start + part.start, whole.start + part.stop)

    def _part(self, batch: Batch) -> Part:
        whole = self._whole_span(batch.address.step)
        count = whole.stop - whole.start
        return Part(**vars(batch), start=part_of(count, *self.share).start, count=count)

    def _check_unlabelled(self) -> None:
        if self.unlabelled is None:
            return
        if self.repeats > 1:
            raise AttarError("data.repeats repeats images with labels only; leave it or data.unlabelled out")
        if type(self.unlabelled) is not type(self.images) or self.unlabelled.stored_size != self.images.stored_size:
            raise AttarError(
                f"the unlabelled images of {self.unlabelled.name!r} are stored otherwise than those of "
                f"{self.images.name!r}; read both at one size, both into memory or both from their files"
            )
        if not 1 <= self.unlabelled_batch <= len(self.unlabelled):
            raise AttarError(
                f"unlabelled_batch must be 1 to {len(self.unlabelled)}, the images of {self.unlabelled.name!r}, "
                f"got {self.unlabelled_batch}"
            )
        if self.share[1] > 1:
            raise AttarError(
                "unlabelled images train in one process, not in several; leave torchrun or data.unlabelled out"
            )

    def _check_share(self) -> None:
        """No process may be left without an image: its loss would be the mean of nothing."""
        for step in {0, len(self) - 1}:
            whole = self._whole_span(step)
            if whole.stop - whole.start < self.share[1]:
                raise AttarError(
                    f"a batch of {whole.stop - whole.start} images cannot be shared by {self.share[1]} processes "
                    f"(batch_size={self.batch_size}, {len(self.images)} images); choose another batch_size, or fewer "
                    "processes"
                )
