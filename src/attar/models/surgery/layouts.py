"""Features of any layout as maps or vectors: convolutions give (B, C, H, W), Swin (B, H, W, C), transformers tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attar.errors import PairError

# A class token, a distillation token and registers stand before the patches.
MOST_PREFIX_TOKENS = 8


def as_map(x: Tensor) -> Tensor:
    """A feature as a map (B, C, H, W).

    Args:
        x: a map; a map (B, H, W, C), known by its two middle sizes, which are equal and not its last (of an image that
            is not square, a map (B, C, H, W) with C = H is taken for one); or tokens (B, N, C) of a square image: the
            last H * H tokens are its patches, up to 8 others stand before them.

    Raises:
        PairError: a vector, or tokens that are no square.

    >>> [tuple(as_map(torch.zeros(shape)).shape) for shape in ((2, 5, 4, 4), (2, 4, 4, 5), (2, 17, 5))]
    [(2, 5, 4, 4), (2, 5, 4, 4), (2, 5, 4, 4)]
    """
    if x.ndim == 4:
        _, first, second, last = x.shape
        return x.permute(0, 3, 1, 2) if first == second != last else x
    if x.ndim == 3:
        side = math.isqrt(x.shape[1])
        if x.shape[1] - side**2 <= MOST_PREFIX_TOKENS:
            return x[:, -(side**2) :].mT.unflatten(2, (side, side))
    raise PairError(
        f"a feature of shape {tuple(x.shape)} is no map: expected (B, C, H, W), (B, H, W, C) or tokens (B, N, C) of a "
        "square image; name a layer that gives one, or use a method of vectors (rkd, pkt, cc)"
    )


def as_vector(x: Tensor) -> Tensor:
    """A feature as a vector (B, C): the mean over space or tokens.

    >>> [tuple(as_vector(torch.zeros(shape)).shape) for shape in ((2, 5, 4, 4), (2, 17, 5), (2, 5))]
    [(2, 5), (2, 5), (2, 5)]
    """
    if x.ndim == 2:
        return x
    return x.mean(1) if x.ndim == 3 else as_map(x).mean((2, 3))


def as_feature(x: Tensor) -> Tensor:
    """A vector as it is, everything else as a map."""
    return x if x.ndim == 2 else as_map(x)


Arrange = Callable[[Tensor], Tensor]


class Arranged(nn.Module):
    """Another module whose tensors are first brought to one layout: losses of features from layers by path.

    Args:
        module: called as module(learner, ...).
        arrange: `as_map`, `as_vector` or `as_feature`.
    """

    def __init__(self, module: nn.Module, arrange: Arrange) -> None:
        super().__init__()
        self.module, self.arrange = module, arrange

    def forward(self, *features: Tensor) -> Tensor:
        return self.module(*(self.arrange(one) for one in features))


def arranged_shape(shape: tuple[int, ...], arrange: Arrange) -> tuple[int, ...]:
    """The shape, without the batch, of a feature that was arranged.

    >>> arranged_shape((17, 5), as_map)
    (5, 4, 4)
    """
    return tuple(arrange(torch.empty(1, *shape, device="meta")).shape[1:])
