"""A batch of inputs and labels, and the address from which all its randomness follows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Self, TypeVar

import torch
from torch import Tensor

from attar.errors import AttarError, unknown

Inputs = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Address:
    """Where in a run something happens: the seed, the epoch (from 0) and the step within it (from 0).

    Randomness is addressed, not consumed: two generators for one address and one purpose draw the
    same numbers, whatever was drawn before, so step n of epoch e is the same in a resumed run.

    >>> draw = lambda: torch.rand(1, generator=Address(seed=1, epoch=2, step=3).generator("mix"))
    >>> bool(draw() == draw())
    True
    """

    seed: int = 0
    epoch: int = 0
    step: int = 0

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A new generator for one purpose ("order", "crop", "mix", ...) at this address."""
        key = f"{self.seed}/{self.epoch}/{self.step}/{purpose}".encode()
        digest = hashlib.blake2b(key, digest_size=8).digest()
        # 63 bits: manual_seed takes a signed 64-bit number.
        return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)

    def seed_layers(self, device: torch.device, rank: int = 0) -> None:
        """Put the global generators, from which dropout layers draw, where this address has them in one process."""
        seed_global_generators(self.generator("layers").initial_seed() + rank, device)


def seed_global_generators(seed: int, device: torch.device) -> None:
    """What `torch.manual_seed` does, for the CPU and one device.

    For devices that nobody uses torch puts the call off and keeps a stack trace with it, up to half a millisecond each
    time.

    >>> seed_global_generators(1, torch.device("cpu"))
    >>> round(float(torch.rand(1)), 4)
    0.7576
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


@dataclass(frozen=True)
class Counts:
    """How much one optimiser step averages over, all its parts together: the denominator of every mean.

    A step is computed in parts where batches are accumulated or several processes share a batch. A part's own mean is
    then multiplied by (its own count) * parts / (the step's count), so that the average over the parts is the mean over
    the whole step, however unequal the parts are.

    Attributes:
        rows: rows (images, sequences, graphs).
        labelled: rows that have a label.
        weight: the sum of `Batch.weight`; None where every entry counts alike.
        parts: how many parts are averaged.
        class_weight: the sum of the class weights of the labels; None where classes count alike or images are mixed.

    >>> Counts(6, 6) + Counts(2, 2)
    Counts(rows=8, labelled=8, weight=None, parts=2, class_weight=None)
    """

    rows: int
    labelled: int
    weight: float | Tensor | None = None
    parts: int = 1
    class_weight: float | None = None

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows,
            self.labelled + other.labelled,
            _sum(self.weight, other.weight),
            self.parts + other.parts,
            _sum(self.class_weight, other.class_weight),
        )


Sum = TypeVar("Sum", float | Tensor | None, float | None)


def _sum(one: Sum, other: Sum) -> Sum:
    """The sum of two numbers; None where one of them is not known."""
    return None if one is None or other is None else one + other


@dataclass
class Batch:
    """What a method sees in one step.

    Attributes:
        inputs: what the networks see, on their device: one tensor (images (B, C, H, W), normalised; token ids (B, L)),
            or a dict of tensors of B rows each, passed to networks by name.
        labels: what supervises, as the task defines it: class numbers (B,), int64, -1 where there is none; of mixed
            images (B, K) probabilities, all 0 where there is none; which of several labels a row has (B, K), bool; the
            next tokens (B, L); density maps (B, 1, H, W).
        index: (B,) each row's number in its data set, for caches and memory banks; None outside our loaders.
        address: the seed, epoch and step this batch belongs to.
        epochs: how many epochs the run has, for weights that move with training.
        phase: which of the method's phases this forward pass belongs to; methods that step once have only "".
        views: the same images varied in other ways, as `inputs`, under the names the loader was asked for.
        labelled: how many of the rows, the first ones, have a label; None: all.
        output: the name under which networks' outputs enter the knowledge, as the task calls it.
        weight: how much each entry of the output counts: (B,) rows, (B, L) tokens, nodes; 0 leaves one out. None: all
            alike.
        mixed: whether the labels are probabilities of classes (B, K) where the task's own are class numbers.
        counts: what the optimiser step holds in all, where this batch is only a part of it; None: this batch is all.
    """

    inputs: Inputs
    labels: Tensor
    index: Tensor | None = None
    address: Address = field(default_factory=Address)
    epochs: int = 1
    phase: str = ""
    views: dict[str, Tensor] = field(default_factory=dict)
    labelled: int | None = None
    output: str = "logits"
    weight: Tensor | None = None
    mixed: bool = False
    counts: Counts | None = None

    def __len__(self) -> int:
        return len(first_tensor(self.inputs))

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return first_tensor(self.inputs).device

    @property
    def images(self) -> Tensor:
        """The inputs, where they are one tensor.

        Raises:
            AttarError: they are several tensors by name.
        """
        if isinstance(self.inputs, dict):
            raise AttarError(
                f"the inputs are tensors by name ({', '.join(self.inputs)}), expected one tensor; "
                "choose a method that passes batch.inputs to its networks unchanged"
            )
        return self.inputs

    def to(self, device: torch.device | str) -> Self:
        """The same batch with its tensors on another device."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        inputs = {key: one.to(device) for key, one in self.inputs.items()} if isinstance(self.inputs, dict) else None
        return replace(
            self,
            inputs=self.images.to(device) if inputs is None else inputs,
            labels=self.labels.to(device),
            index=move(self.index),
            views={name: view.to(device) for name, view in self.views.items()},
            weight=move(self.weight),
        )

    def rows(self, part: slice | Tensor) -> Self:
        """Some of its rows, everything else as it is.

        >>> batch = Batch({"tokens": torch.arange(6).view(3, 2)}, torch.tensor([0, 1, 0]), weight=torch.ones(3, 2))
        >>> batch.rows(slice(1, 3)).inputs["tokens"].tolist(), len(batch.rows(slice(0, 1)))
        ([[2, 3], [4, 5]], 1)
        """
        return replace(
            self,
            inputs=rows_of(self.inputs, part),
            labels=self.labels[part],
            index=None if self.index is None else self.index[part],
            views={name: view[part] for name, view in self.views.items()},
            weight=None if self.weight is None else self.weight[part],
        )

    def rng(self, purpose: str) -> torch.Generator:
        """The generator a method draws from: never the global state."""
        return self.address.generator(purpose, self.device)

    @property
    def whole(self) -> int:
        """How many rows the step's batch has; a process of several holds only some of them."""
        return len(self)

    def own(self, rows: Tensor) -> Tensor:
        """This process's rows of something drawn for the whole batch."""
        return rows

    def all_rows(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in the batch's order, with the gradients of all."""
        return rows

    def view(self, name: str) -> Tensor:
        """The same images varied in another way, by the name the loader was asked for ("strong")."""
        if name not in self.views:
            if not self.views:
                raise AttarError(f"the batch has no view {name!r}; give the loader views={{{name!r}: Augment(...)}}")
            raise unknown("view", name, self.views)
        return self.views[name]


def first_tensor(inputs: Inputs) -> Tensor:
    """The inputs themselves, or the first of them where they have names: all have the same rows and device."""
    return inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))


def rows_of(inputs: Inputs, part: slice | Tensor) -> Inputs:
    """Some rows of one tensor or of tensors by name."""
    return inputs[part] if isinstance(inputs, Tensor) else {key: one[part] for key, one in inputs.items()}


@lru_cache(maxsize=8)
def on_device(device: torch.device, numbers: tuple[float, ...]) -> Tensor:
    """Numbers on a device, copied there once: each copy would wait for it."""
    with torch.inference_mode(False):  # else gradients could never pass what was first used in inference mode
        return torch.tensor(numbers, device=device)


def upload(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of one type on a device, in one transfer; it takes them from pinned memory when it gets there.

    A copy from ordinary memory waits until the device has finished all that was asked of it before.

    >>> [tensor.tolist() for tensor in upload([torch.tensor([1, 2]), torch.tensor([3])], torch.device("cpu"))]
    [[1, 2], [3]]
    """
    if device.type == "cpu" or not tensors:
        return tensors
    together = torch.cat([tensor.flatten() for tensor in tensors]).pin_memory().to(device, non_blocking=True)
    parts = together.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
