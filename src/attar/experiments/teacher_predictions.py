"""The teacher as the one that students' answers are compared with: what it says about a test set is computed once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attar.data import ImageSet
from attar.knowledge import Output
from attar.models import fingerprint

TeacherLogits = dict[tuple[str, str], list[Tensor]]


class TeacherPredictions(nn.Module):
    """A network that is shown the same batches again and again, and computes its logits the first time.

    Args:
        net: the network.
        heard: what networks with the same weights said already; it is added to.
    """

    def __init__(self, net: nn.Module, heard: TeacherLogits | None = None) -> None:
        super().__init__()
        self.net = net
        self.heard: TeacherLogits = {} if heard is None else heard
        self._said: list[Tensor] = []
        self._next = 0

    def begin(self, images: ImageSet) -> None:
        """From the first batch of a set on; other weights than before are heard anew."""
        self._said = self.heard.setdefault((fingerprint(self.net), images.fingerprint), [])
        self._next = 0

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of the next batch."""
        if self._next == len(self._said):
            said = self.net(images)
            self._said.append(said.logits if isinstance(said, Output) else said)
        self._next += 1
        return self._said[self._next - 1].to(images.device)
