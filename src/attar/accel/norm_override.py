"""Batch norm in training computed by a function of ours, whatever module calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from attar.accel.function_override import FunctionOverride


def norms_by(batch_norm: Callable[..., Tensor]) -> FunctionOverride:
    """Inside, every batch norm that computes statistics is computed by another function of the same arguments.

    Args:
        batch_norm: in place of `torch.nn.functional.batch_norm`.
    """

    def in_training(*args: Any, **kwargs: Any) -> Tensor:
        training = kwargs.get("training") or (len(args) > 5 and args[5])
        return (batch_norm if training else F.batch_norm)(*args, **kwargs)

    return FunctionOverride({F.batch_norm: in_training})


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
