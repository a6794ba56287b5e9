"""Tensors from the CPU to a device without waiting for what the device is doing."""

from __future__ import annotations

import torch
from torch import Tensor


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
