"""Cached teacher logits on the test set, for the agreement metrics of several students."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attar.data import ImageSet
from attar.knowledge import logits_of
from attar.models import fingerprint

# By the fingerprints of the weights and of the images: the logits of each batch, in order.
TeacherLogits = dict[tuple[str, str], list[Tensor]]


class TeacherPredictions(nn.Module):
    """A network that gets the batches of one set several times and computes their logits the first time only.

    Args:
        net: the network.
        cached: logits that are computed already; new ones are added to it, those of other weights are dropped.
    """

    def __init__(self, net: nn.Module, cached: TeacherLogits | None = None) -> None:
        super().__init__()
        self.net = net
        self.cached: TeacherLogits = {} if cached is None else cached
        self._batches: list[Tensor] = []
        self._next = 0

    def begin(self, images: ImageSet) -> None:
        """Start at the first batch of a set; with other weights than before nothing is cached."""
        weights = fingerprint(self.net)
        for key in [key for key in self.cached if key[0] != weights]:
            del self.cached[key]
        self._batches = self.cached.setdefault((weights, images.fingerprint), [])
        self._next = 0

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of the next batch."""
        if self._next == len(self._batches):
            self._batches.append(logits_of(self.net(images)))
        self._next += 1
        return self._batches[self._next - 1].to(images.device)
