"""A teacher that only speaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from attar.knowledge import Output
from attar.nets.taps import classifier_of, observe


class Frozen:
    """A network that is run without a graph and in eval mode, and never learns.

    It is not a module: a method that holds one does not register, save or train the network inside. The network
    given is itself frozen (`requires_grad` off, eval mode), not a copy. Precision is the caller's: an autocast
    around the call applies.

    Args:
        module: any network.

    >>> from attar.nets.registry import create_model
    >>> frozen = Frozen(create_model("resnet20"))
    >>> frozen(torch.zeros(2, 3, 32, 32), ["stage3"]).tap("stage3").shape
    torch.Size([2, 64, 8, 8])
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module.requires_grad_(False).eval()
        self.requested: tuple[str, ...] = ()

    def request(self, tap: str) -> None:
        """Ask for a tap in every later call, whatever else the call asks for."""
        self.requested = tuple(dict.fromkeys((*self.requested, tap)))

    @torch.no_grad()
    def __call__(self, images: Tensor, taps: Sequence[str] = ()) -> Output:
        """Logits and taps, as `Tapped` gives them."""
        # Whoever else holds the network may have called train() on it.
        if any(module.training for module in self.module.modules()):
            self.module.eval()
        return observe(self.module, images, tuple(dict.fromkeys((*taps, *self.requested))))

    @property
    def classifier(self) -> nn.Linear:
        return classifier_of(self.module)

    def to(self, device: torch.device | str) -> Self:
        """Move the network; returns self."""
        self.module.to(device)
        return self
