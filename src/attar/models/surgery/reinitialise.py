"""A network begun anew."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from attar.errors import PairError
from attar.models.copying import copied
from attar.models.surgery.staged import Staged

Net = TypeVar("Net", bound=nn.Module)


def fresh_copy(net: Net) -> Net:
    """An independent copy of any network, newly initialised, trainable and in training mode.

    It is a copy, not a rebuild from the spec, so that it has whatever surgery gave the original.

    Raises:
        PairError: a module with parameters of its own cannot initialise them.

    >>> old = nn.Linear(2, 2).requires_grad_(False)
    >>> new = fresh_copy(old)
    >>> bool((new.weight == old.weight).any()), new.weight.requires_grad
    (False, True)
    """
    fresh = copied(net)
    reinitialise(fresh)
    return fresh.requires_grad_(True).train()


def reinitialise(net: nn.Module) -> None:
    """Draw all of a network's parameters anew, and reset its running statistics.

    Every module is asked to `reset_parameters`; a staged network then draws its convolutions as it did when built.

    Raises:
        PairError: a module with parameters of its own cannot initialise them; nothing was changed then.
    """
    resets = []
    for name, module in net.named_modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if reset is not None:
            resets.append(reset)
        elif next(module.parameters(recurse=False), None) is not None:
            where = f"{type(module).__name__} at {name!r}" if name else type(module).__name__
            raise PairError(f"{where} cannot be initialised anew; give it a reset_parameters method")
    for reset in resets:
        reset()
    for module in net.modules():
        if isinstance(module, Staged):
            module.initialise()
