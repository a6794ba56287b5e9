"""Copies of networks, of those too that keep an activation of their last forward pass."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)


def copied(net: Net, shared: Iterable[Tensor] = ()) -> Net:
    """A deep copy. Tensors with a graph that modules keep as attributes (`self.feat = x`) are copied without it.

    Python's own deepcopy refuses such tensors; a copy has no use for the graph of a pass of the original.

    Args:
        net: what to copy.
        shared: tensors that both hold: they are not copied.

    >>> net = nn.Linear(2, 2)
    >>> net.feat = net.weight * 2
    >>> copied(net).feat.requires_grad
    False
    """
    memo: dict[int, Any] = {id(tensor): tensor for tensor in shared}
    for module in net.modules():
        for tensor in tensors(vars(module)):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(net, memo)


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a value and in the lists, tuples and dicts inside it."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)
