"""What a task is: the output networks are compared by, and the losses that supervise and imitate it."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

from attar.batch import Batch
from attar.metrics import Metrics
from attar.recipe import Recipe


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

    def example(self) -> Batch:
        """A small batch made without data: for checks, costs and tracing."""
        ...

    def load(self, recipe: Recipe) -> Sets:
        """Everything that a recipe's data section names; `attar.data.divided` makes the sets of a seed from it.

        Raises:
            AttarError: the data are missing, damaged or do not fit the task.
        """
        ...


class Sets(Protocol):
    """The sets of a task: `Splits` of images, `TensorSplits` of anything else."""

    @property
    def train(self) -> Any:
        """What the networks learn from."""
        ...

    @property
    def test(self) -> Any:
        """Looked at once, at the end."""
        ...

    @property
    def val(self) -> Any:
        """Kept apart for choices during training; None: no choice is made."""
        ...

    @property
    def num_classes(self) -> int:
        """How many numbers networks put out: classes, tokens of the vocabulary, 1 of a density."""
        ...
