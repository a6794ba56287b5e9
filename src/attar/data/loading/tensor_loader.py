"""Addressed batches of a set of tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from attar.batch import Address, Batch, Counts, Inputs, rows_of
from attar.data.loading.batch_slice import Part, part_of
from attar.data.tensor_set import DRAWS, TensorSet
from attar.errors import AttarError

# Batches of sequences are cut to multiples of so many entries.
STEP = 8


class TensorLoader:
    """Shuffled batches of a `TensorSet`, every one reachable by its address.

    The order of an epoch follows from (seed, epoch), and how a sample is varied from (seed, epoch, its index), so that
    a run resumed in the middle of an epoch sees exactly what the uninterrupted one would. A last batch of a single
    sample joins the one before it: batch norm cannot train on one.

    Args:
        samples: the set; it is kept on the device.
        batch_size: samples per step.
        seed: where the order and the variation start.
        device: where batches live.
        shuffle: a new order every epoch, and varied samples; otherwise the set's own order, unvaried.
        epochs: how many epochs the run has, written on every batch.
        view_seed: where the variation starts, if not at `seed`.
        share: (number, of how many) gives only that slice of each batch, as a `Part`; every process of a run has one.

    Raises:
        AttarError: the batch size is below 1 or above the number of samples, or a batch has fewer samples than shares.

    >>> loader = TensorLoader(TensorSet(torch.zeros(10, 2), torch.zeros(10), "ten", 1), batch_size=3)
    >>> [len(batch) for batch in loader.epoch(0)]
    [3, 3, 4]
    """

    def __init__(
        self,
        samples: TensorSet,
        batch_size: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        shuffle: bool = True,
        epochs: int = 1,
        view_seed: int | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if not 1 <= batch_size <= len(samples):
            raise AttarError(
                f"batch_size must be 1 to {len(samples)}, the samples of {samples.name!r}, got {batch_size}"
            )
        self.images, self.batch_size, self.seed, self.shuffle = samples, batch_size, seed, shuffle
        self.device, self.epochs, self.share = torch.device(device), epochs, share
        self.view_seed = seed if view_seed is None else view_seed
        if (least := min(self._span(step).stop - self._span(step).start for step in (0, len(self) - 1))) < share[1]:
            raise AttarError(
                f"a batch of {least} samples cannot be shared by {share[1]} processes; choose another batch_size, or "
                "fewer processes"
            )
        self._inputs = rows_of(samples.inputs, slice(None))
        if isinstance(self._inputs, Tensor):
            self._inputs = self._inputs.to(self.device)
        else:
            self._inputs = {name: tensor.to(self.device) for name, tensor in self._inputs.items()}
        self._labels = samples.labels.to(self.device)
        self._weight = None if samples.weight is None else samples.weight.to(self.device)

    def __len__(self) -> int:
        """Steps in an epoch."""
        full, left = divmod(len(self.images), self.batch_size)
        return full if left <= 1 and full else full + 1

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch (from 0), from any step on."""
        order, vary = self._order(epoch), self.images.vary if self.shuffle else None
        draws = None
        if vary is not None:
            generator = Address(self.view_seed, epoch).generator("vary")
            draws = torch.rand(len(self.images), DRAWS, generator=generator)
        for step in range(start_step, len(self)):
            span = self._span(step)
            part = part_of(span.stop - span.start, *self.share)
            whole, rows = order[span], order[span.start + part.start : span.start + part.stop]
            index = rows.to(self.device)
            inputs, labels = self._cut(rows_of(self._inputs, index), whole), self._labels[index]
            if vary is not None and draws is not None:
                inputs, labels = vary(inputs, labels, draws[rows].to(self.device))
            weight = None if self._weight is None else self._weight[index]
            address = Address(self.seed, epoch, step)
            batch = Batch(inputs, labels, index, address, self.epochs, weight=weight)
            if self.share[1] == 1:
                yield batch
                continue
            counts = self.counts(epoch, step)
            batch.counts = Counts(counts.rows, counts.labelled, counts.weight, self.share[1])
            yield Part(**vars(batch), start=part.start, count=counts.rows)

    def _cut(self, inputs: Inputs, whole: Tensor) -> Inputs:
        """Inputs without the columns that are padding in the whole batch, so that all processes have one shape.

        Args:
            inputs: of the rows of this process.
            whole: the numbers of the batch's samples, over all processes; on the CPU as lengths are, so nothing waits.
        """
        if self.images.lengths is None:
            return inputs
        # In steps of eight, so that shapes repeat.
        longest = -(-int(self.images.lengths[whole].max()) // STEP) * STEP

        def cut(tensor: Tensor) -> Tensor:
            # A copy: graphs that are traced on a view expect views.
            return tensor[:, :longest].contiguous() if longest < tensor.shape[1] else tensor

        return cut(inputs) if isinstance(inputs, Tensor) else {name: cut(one) for name, one in inputs.items()}

    def counts(self, epoch: int, step: int) -> Counts:
        """How much the whole batch of a step holds, over all processes."""
        span = self._span(step)
        rows = span.stop - span.start
        weight = None
        if self.images.weight is not None:
            weight = float(self.images.weight[self._order(epoch)[span]].double().sum())
        return Counts(rows, rows, weight)

    @property
    def unlabelled_batch(self) -> int:
        """None of the samples is without labels."""
        return 0

    @property
    def augment(self) -> str:
        """How samples are varied, for the keys of caches."""
        return getattr(self.images.vary, "__qualname__", "")

    @property
    def mixing(self) -> None:
        """Samples are not mixed."""
        return None

    @property
    def identity(self) -> str:
        """Loaders with the same one give the same batches."""
        sizes = (self.batch_size, self.epochs, self.share, self.seed, self.view_seed, self.shuffle)
        return repr((type(self.images).__name__, self.images.fingerprint, sizes, self.device))

    def whole(self) -> Self:
        """The same loader without shares: it gives the whole batches."""
        loader = copy.copy(self)
        loader.share = (0, 1)
        return loader

    def _order(self, epoch: int) -> Tensor:
        """The samples' numbers in an epoch's order, on the CPU, so that every device sees the same one."""
        if not self.shuffle:
            return torch.arange(len(self.images))
        return torch.randperm(len(self.images), generator=Address(self.seed, epoch).generator("order"))

    def _span(self, step: int) -> slice:
        """The rows of an epoch's order that belong to a step."""
        last = step == len(self) - 1
        return slice(step * self.batch_size, len(self.images) if last else (step + 1) * self.batch_size)
