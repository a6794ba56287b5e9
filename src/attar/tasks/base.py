"""What a task is: the output networks are compared by, and the losses that supervise and imitate it."""

from __future__ import annotations

from typing import Protocol

from attar.losses.loss import Loss


class Task(Protocol):
    """What is learnt. A method speaks of its task, not of cross-entropy."""

    @property
    def output(self) -> str:
        """The name under which networks' outputs enter the knowledge: "logits", "density"."""
        ...

    def supervise(self) -> Loss:
        """The learner's output against the labels, called as loss(output, labels)."""
        ...

    def imitate(self, temperature: float) -> Loss:
        """The learner's output against another network's, called as loss(output, other)."""
        ...
