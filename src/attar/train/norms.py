"""Batch norm in training computed by a function of ours, whatever module calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class NormsBy(TorchFunctionMode):
    """Inside, every batch norm that computes statistics is computed by another function of the same arguments.

    Args:
        batch_norm: instead of `torch.nn.functional.batch_norm`.
    """

    def __init__(self, batch_norm: Callable[..., Tensor]) -> None:
        super().__init__()
        self.batch_norm = batch_norm

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm and (kwargs.get("training") or (len(args) > 5 and args[5])):
            return self.batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def other_dims(x: Tensor) -> list[int]:
    """All dimensions but that of the channels.

    >>> import torch
    >>> other_dims(torch.zeros(8, 16, 4, 4))
    [0, 2, 3]
    """
    return [dim for dim in range(x.ndim) if dim != 1]


def at_channels(channels: Tensor, x: Tensor) -> Tensor:
    """(C,) numbers, ready to be combined with (B, C, ...).

    >>> import torch
    >>> at_channels(torch.zeros(16), torch.zeros(8, 16, 4, 4)).shape
    torch.Size([1, 16, 1, 1])
    """
    return channels.reshape(1, -1, *[1] * (x.ndim - 2))
