"""How a row of logits is stored: whole in float16, or only its largest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attar.errors import AttarError


@dataclass(frozen=True)
class Dense:
    """Every logit in float16.

    Attributes:
        classes: K.

    >>> codec = Dense(classes=3)
    >>> codec.decode(codec.encode(torch.tensor([[1.0, 2.0, 0.5]])))
    tensor([[1.0000, 2.0000, 0.5000]])
    """

    classes: int

    @property
    def row_bytes(self) -> int:
        return 2 * self.classes

    def encode(self, logits: Tensor) -> Tensor:
        """(B, K) logits to (B, row_bytes) bytes on their device."""
        return _half(logits.float()).view(torch.uint8)

    def decode(self, rows: Tensor) -> Tensor:
        """(B, row_bytes) bytes to (B, K) float32 on their device."""
        return rows.view(torch.float16).float()

    def __str__(self) -> str:
        return f"dense {self.classes}"


@dataclass(frozen=True)
class TopK:
    """The largest logits, and one number for all others: what their probabilities add up to is kept.

    The others come back equal to each other. At temperature 1 the distribution differs only among them.

    Attributes:
        classes: K.
        top: how many are kept.

    >>> codec = TopK(classes=4, top=2)
    >>> codec.decode(codec.encode(torch.tensor([[0.0, 4.0, 2.0, 0.0]])))
    tensor([[0., 4., 2., 0.]])
    """

    classes: int
    top: int

    def __post_init__(self) -> None:
        if not 0 < self.top < self.classes:
            raise AttarError(f"teacher.cache_top must be 1 to {self.classes - 1}, got {self.top}; leave it out for all")

    @property
    def row_bytes(self) -> int:
        # Values and the rest in float16, indices in 32 bits.
        return 2 * (self.top + 1) + 4 * self.top

    def encode(self, logits: Tensor) -> Tensor:
        """(B, K) logits to (B, row_bytes) bytes on their device."""
        logits = logits.float()
        values, indices = logits.topk(self.top, dim=1)
        rest = logits.scatter(1, indices, -math.inf).logsumexp(1, keepdim=True) - math.log(self.classes - self.top)
        floats = _half(torch.cat([values, rest], dim=1))
        return torch.cat([floats.view(torch.uint8), indices.int().view(torch.uint8)], dim=1)

    def decode(self, rows: Tensor) -> Tensor:
        """(B, row_bytes) bytes to (B, K) float32 on their device."""
        split = 2 * (self.top + 1)
        # Cloned, because a view of another type must begin at a multiple of its size.
        floats = rows[:, :split].clone(memory_format=torch.contiguous_format).view(torch.float16).float()
        indices = rows[:, split:].clone(memory_format=torch.contiguous_format).view(torch.int32).long()
        return floats[:, -1:].repeat(1, self.classes).scatter(1, indices, floats[:, :-1])

    def __str__(self) -> str:
        return f"top {self.top} of {self.classes}"


@dataclass(frozen=True)
class PerEntry:
    """Outputs of several entries a sample (tokens), each row of logits stored by another codec.

    Attributes:
        codec: of one entry.
        entries: the shape of the entries: (L,) of L tokens.

    >>> codec = PerEntry(Dense(classes=3), entries=(2,))
    >>> codec.decode(codec.encode(torch.ones(4, 2, 3))).shape
    torch.Size([4, 2, 3])
    """

    codec: Dense | TopK
    entries: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return self.codec.row_bytes * math.prod(self.entries)

    def encode(self, logits: Tensor) -> Tensor:
        """(B, *entries, K) logits to (B, row_bytes) bytes on their device."""
        return self.codec.encode(logits.flatten(0, -2)).reshape(len(logits), -1)

    def decode(self, rows: Tensor) -> Tensor:
        """(B, row_bytes) bytes to (B, *entries, K) float32 on their device."""
        each = self.codec.decode(rows.reshape(-1, self.codec.row_bytes))
        return each.view(len(rows), *self.entries, self.codec.classes)

    def __str__(self) -> str:
        return f"{self.codec} x {'x'.join(map(str, self.entries))}"


Codec = Dense | TopK | PerEntry


def codec_of(output: tuple[int, ...], top: int | None) -> Codec:
    """The codec of outputs of a shape without the batch: classes last, entries before them.

    >>> str(codec_of((128, 256), top=8))
    'top 8 of 256 x 128'
    """
    *entries, classes = output
    one = TopK(classes, top) if top else Dense(classes)
    return PerEntry(one, tuple(entries)) if entries else one


def _half(logits: Tensor) -> Tensor:
    # float16 ends at 65504; a softmax cannot separate such logits.
    return logits.clamp(-65504, 65504).half().contiguous()
