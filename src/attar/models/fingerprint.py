"""What tells one trained network from another."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def fingerprint(net: nn.Module) -> str:
    """16 hex digits that follow from a network's structure and every weight and statistic in it.

    >>> fingerprint(nn.Linear(2, 2)) == fingerprint(nn.Linear(2, 2))
    False
    """
    # The text of a network names its layers with their settings, which the weights alone do not tell.
    digest = hashlib.blake2b(repr(net).encode(), digest_size=8)
    for name, tensor in sorted(net.state_dict().items()):
        if not isinstance(tensor, Tensor):  # the extra state of a module of the user's
            digest.update(f"{name} {tensor!r}".encode())
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
