"""Cached teacher logits on the test set, for the agreement metrics of several students."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attar.data import Samples
from attar.knowledge import logits_of
from attar.models import fingerprint

# Outputs beyond so many bytes are computed every time: those of language models take gigabytes.
MOST_BYTES = 2**28
# By the fingerprints of the weights and of the images: the logits of each batch, in order.
TeacherLogits = dict[tuple[str, str], list[Tensor]]


class TeacherPredictions(nn.Module):
    """A network that gets the batches of one set several times and computes their outputs the first time only.

    It keeps `MOST_BYTES` of them; what comes after is computed every time.

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

    def begin(self, images: Samples) -> None:
        """Start at the first batch of a set; with other weights than before nothing is cached.

        Convolutions round by the layout of their weights: all runs of a process share these outputs, so the layout is
        that of training, whether or not a run's method holds the network.
        """
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weights = fingerprint(self.net)
        for key in [key for key in self.cached if key[0] != weights]:
            del self.cached[key]
        self._batches = self.cached.setdefault((weights, images.fingerprint), [])
        self._next = 0

    @torch.no_grad()
    def forward(self, *images: Tensor, **named: Tensor) -> Tensor:
        """The output of the next batch."""
        number = self._next
        self._next += 1
        if number < len(self._batches):
            return self._batches[number].to(next(iter([*images, *named.values()])).device)
        output = logits_of(self.net(*images, **named))
        kept = sum(one.numel() * one.element_size() for one in self._batches)
        # In order: the next to be kept is the next that is missing.
        if number == len(self._batches) and kept + output.numel() * output.element_size() <= MOST_BYTES:
            self._batches.append(output)
        return output
