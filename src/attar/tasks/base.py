"""What a task is: the output networks are compared by, and the losses that supervise and imitate it."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from attar.metrics import Metrics


class Task(Protocol):
    """What is learnt. A method speaks of its task, not of cross-entropy."""

    @property
    def output(self) -> str:
        """The name under which networks' outputs enter the knowledge: "logits", "density"."""
        ...

    def supervise(self) -> nn.Module:
        """The learner's output against the labels, called as loss(output, labels)."""
        ...

    def imitate(self, temperature: float) -> nn.Module:
        """The learner's output against another network's, called as loss(output, other)."""
        ...

    def metrics(self) -> Metrics:
        """A new metrics object: what a network is scored by, its primary measure first."""
        ...
