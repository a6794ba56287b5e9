"""A batch of images, and the address from which all its randomness follows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attar.errors import AttarError, unknown


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
        """A fresh generator for one purpose ("order", "crop", "mix", ...) at this address."""
        key = f"{self.seed}/{self.epoch}/{self.step}/{purpose}".encode()
        digest = hashlib.blake2b(key, digest_size=8).digest()
        # 63 bits: manual_seed takes a signed 64-bit number.
        return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


@dataclass
class Batch:
    """What a method sees in one step.

    Attributes:
        inputs: what the networks see: images (B, C, H, W), normalised, on the device of the networks.
        labels: (B,) class numbers, int64, -1 where there is none; of mixed images (B, K) probabilities, all 0 where
            there is none.
        index: (B,) each image's number in its data set, for caches and memory banks; None outside our loaders.
        address: the seed, epoch and step this batch belongs to.
        epochs: how many epochs the run has, for weights that move with training.
        phase: which of the method's phases this forward pass belongs to; methods that step once have only "".
        views: the same images varied in other ways, as `inputs`, under the names the loader was asked for.
        labelled: how many of the rows, the first ones, have a label; None: all.
        output: the name under which networks' outputs enter the knowledge, as the task calls it.
    """

    inputs: Tensor
    labels: Tensor
    index: Tensor | None = None
    address: Address = field(default_factory=Address)
    epochs: int = 1
    phase: str = ""
    views: dict[str, Tensor] = field(default_factory=dict)
    labelled: int | None = None
    output: str = "logits"

    def __len__(self) -> int:
        return len(self.inputs)

    def rng(self, purpose: str) -> torch.Generator:
        """The generator a method draws from: never the global state."""
        return self.address.generator(purpose, self.inputs.device)

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
