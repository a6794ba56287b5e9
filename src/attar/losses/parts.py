"""Large comparisons some rows at a time, so that their memory does not grow with the cube of a batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.utils.checkpoint import checkpoint

# So many numbers are computed at a time: 16 MB of them. The batches of most papers are computed whole.
TOGETHER = 2**22


def parts_of(rows: int, each: int) -> list[slice]:
    """The rows in parts, where each row is compared in so many numbers; one part where all of them are few.

    >>> parts_of(64, 64**2)
    [slice(0, 64, None)]
    >>> [part.start for part in parts_of(256, 256**2)]
    [0, 64, 128, 192]
    """
    count = max(TOGETHER // max(each, 1), 1)
    return [slice(start, min(start + count, rows)) for start in range(0, rows, count)]


def recomputed(function: Callable[..., Tensor], *arguments: object) -> Tensor:
    """What a function gives, computed once more on the way back: nothing of what it makes on its way is kept."""
    found = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    assert isinstance(found, Tensor)
    return found
