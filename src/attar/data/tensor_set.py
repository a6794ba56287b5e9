"""Samples of any kind in memory: inputs, what supervises them, and what counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from attar.batch import Address, Inputs, first_tensor, rows_of
from attar.errors import AttarError

# Varies the inputs and labels of a batch by numbers in [0, 1), DRAWS of them a sample.
Vary = Callable[[Inputs, Tensor, Tensor], tuple[Inputs, Tensor]]
DRAWS = 4


@dataclass(frozen=True, eq=False)
class TensorSet:
    """Samples held as tensors, for tasks whose samples are no classified images.

    Attributes:
        inputs: what networks see: one tensor (N, ...), or tensors by name of N rows each.
        labels: (N, ...) what supervises: the next tokens (N, L), density maps (N, 1, H, W).
        name: what the set is called.
        outputs: how many numbers the networks put out at each entry: the vocabulary, or 1 of a density.
        weight: (N,) or (N, L) how much each entry counts; None: all alike.
        vary: how training samples are varied; None: not at all.
        classes: the name of each output, where they have names.
        lengths: (N,) how many entries of each sample's inputs, tokens say, are not padding: batches are cut to their
            longest sample. None: all are of one length.
        network: what networks are made with, beside the outputs and the shape (the size of a vocabulary).
        facts: what whoever prepares further inputs must know, as plain data (the tokenizer, mean and std).

    Raises:
        AttarError: the rows differ, or the inputs hold NaN or infinite numbers.

    >>> len(TensorSet(torch.zeros(3, 8), torch.zeros(3), "three", outputs=1))
    3
    """

    inputs: Inputs = field(repr=False)
    labels: Tensor = field(repr=False)
    name: str
    outputs: int
    weight: Tensor | None = field(default=None, repr=False)
    vary: Vary | None = None
    classes: tuple[str, ...] = ()
    lengths: Tensor | None = field(default=None, repr=False)
    network: dict[str, Any] = field(default_factory=dict, repr=False)
    facts: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        tensors = {"inputs": self.inputs} if isinstance(self.inputs, Tensor) else dict(self.inputs)
        tensors["labels"] = self.labels
        if self.weight is not None:
            tensors["weight"] = self.weight
        for name, tensor in tensors.items():
            if len(tensor) != len(self):
                raise AttarError(f"{name} of {self.name!r} has {len(tensor)} rows, the inputs {len(self)}; match them")
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                row = int((~torch.isfinite(tensor)).flatten(1).any(1).nonzero()[0])
                raise AttarError(f"{name} of {self.name!r} holds NaN or infinity in sample {row}; repair or remove it")

    def __len__(self) -> int:
        return len(first_tensor(self.inputs))

    @property
    def example(self) -> Inputs:
        """The inputs of one sample, on which a network's cost is measured."""
        return rows_of(self.inputs, slice(0, 1))

    @property
    def class_weights(self) -> None:
        """There are no classes to weigh."""
        return None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample's first input."""
        return tuple(first_tensor(self.inputs).shape[1:])

    @property
    def card(self) -> dict[str, Any]:
        """What the JSON beside deployed weights holds of the data."""
        return {"classes": list(self.classes), "input_shape": list(self.shape), "outputs": self.outputs, **self.facts}

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that follow from everything a network can see of the set."""
        digest = hashlib.blake2b(repr((self.shape, self.outputs)).encode(), digest_size=8)
        given = [self.inputs] if isinstance(self.inputs, Tensor) else list(self.inputs.values())
        for tensor in [*given, self.labels, *([] if self.weight is None else [self.weight])]:
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def subset(self, index: Tensor | slice) -> TensorSet:
        """The samples at these positions, in this order."""
        weight, lengths = (None if one is None else one[index] for one in (self.weight, self.lengths))
        inputs, labels = rows_of(self.inputs, index), self.labels[index]
        return replace(self, inputs=inputs, labels=labels, weight=weight, lengths=lengths)


@dataclass(frozen=True, eq=False)
class TensorSplits:
    """The sets of one task: to learn from, to choose by, and to report.

    Attributes:
        train: what the networks learn from.
        test: looked at once, at the end.
        val: kept apart for choices during training; None: no choice is made.
        notes: what the user should know about the loading.

    Raises:
        AttarError: a set is empty, or the sets differ in shape or in outputs.
    """

    train: TensorSet
    test: TensorSet
    val: TensorSet | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for role, one in (("train", self.train), ("val", self.val), ("test", self.test)):
            if one is None:
                continue
            if not len(one):
                raise AttarError(f"the {role} set has no samples; give it some, or another fraction")
            if (one.shape, one.outputs) != (self.train.shape, self.train.outputs):
                raise AttarError(
                    f"{role} samples are {one.shape} with {one.outputs} outputs, training samples {self.train.shape} "
                    f"with {self.train.outputs}; make them alike"
                )

    def divided(self, val_fraction: float, seed: int, train_size: int | None = None) -> TensorSplits:
        """What one seed keeps apart and trains on.

        Args:
            val_fraction: the part of the training set kept apart for validation, drawn by the seed; data that come with
                a validation set keep theirs.
            seed: which samples are kept apart; the test set never depends on it.
            train_size: train on only so many samples, drawn by the seed; None: all.

        Raises:
            AttarError: there are fewer than `train_size`.
        """
        train, val = self.train, self.val
        if val is None and val_fraction:
            order = torch.randperm(len(train), generator=Address(seed).generator("split"))
            count = max(1, round(val_fraction * len(train)))
            val, train = train.subset(order[:count].sort().values), train.subset(order[count:].sort().values)
        if train_size is not None:
            if not 1 <= train_size <= len(train):
                raise AttarError(f"data.train_size must be 1 to {len(train)}, got {train_size}")
            order = torch.randperm(len(train), generator=Address(seed).generator("limit"))
            train = train.subset(order[:train_size].sort().values)
        return replace(self, train=train, val=val)

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each output, where they have names."""
        return self.train.classes

    @property
    def num_classes(self) -> int:
        """How many outputs networks have."""
        return self.train.outputs

    @property
    def unlabelled(self) -> None:
        """All samples have labels."""
        return None

    @property
    def network(self) -> dict[str, Any]:
        """What `create_model` needs of the data: how many outputs there are, and the size of a sample."""
        channels, *size = self.train.shape
        if first_tensor(self.train.inputs).is_floating_point():
            sizes: dict[str, Any] = {"in_channels": channels, **({"image_size": size} if size else {})}
        else:  # token ids: their number
            sizes = {"image_size": channels}
        return {"num_classes": self.num_classes, **sizes, **self.train.network}

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.train.shape
