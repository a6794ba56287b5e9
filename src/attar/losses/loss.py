"""What every loss module is: a function with its hyper-parameters held still."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from attar.losses.checks import check_reduction


def target_class(loss: nn.Module) -> nn.Module | None:
    """A loss's part of the label's own class, where it has one; see `Loss.target_class`."""
    find = getattr(loss, "target_class", None)
    return None if find is None else find()


def without_temperature(loss: nn.Module) -> nn.Module | None:
    """The part of a loss on which its temperature does nothing, where it has one; see `Loss.without_temperature`."""
    find = getattr(loss, "without_temperature", None)
    return None if find is None else find()


def same_loss(one: nn.Module, other: nn.Module) -> bool:
    """Whether two losses are of one class with the same settings.

    >>> from attar.losses import KLDivergence
    >>> same_loss(KLDivergence(4.0), KLDivergence(4.0)), same_loss(KLDivergence(4.0), KLDivergence(2.0))
    (True, False)
    """
    if type(one) is not type(other) or repr(one) != repr(other):
        return False
    mine, theirs = ({key: item for key, item in vars(loss).items() if key[0] != "_"} for loss in (one, other))
    parts = zip(one.children(), other.children(), strict=True)  # as many, or their texts would differ
    same = mine.keys() == theirs.keys() and all(_equal(item, theirs[key]) for key, item in mine.items())
    return same and all(same_loss(*pair) for pair in parts)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return bool(one == other)


@dataclass(eq=False, repr=False)
class Loss(nn.Module):
    """The base of the loss modules: the dataclass fields are the hyper-parameters.

    A loss is called as loss(learner, source, *given). It never detaches; `Transfer.learns` does.

    Attributes:
        counts: whether it takes `weight=` too, how much each entry counts (`Batch.weight`), and is then the mean over
            what counts.
        squared_temperature: whether it has the factor T^2, where it has a temperature.
    """

    counts: ClassVar[bool] = False
    squared_temperature: ClassVar[bool] = True

    def __post_init__(self) -> None:
        # nn.Module stores plain values before its own __init__, so the fields survive it.
        super().__init__()
        if "reduction" in self.settings:
            check_reduction(self.settings["reduction"])

    @property
    def settings(self) -> dict[str, float | str | tuple[float, ...] | None]:
        """The hyper-parameters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def target_class(self) -> nn.Module | None:
        """The part of it that the label's own class has, for optimisers that keep that part's gradient apart.

        It is called as the loss is, with the labels last where the loss itself does not read them. None: the loss has
        no such part.
        """
        return None

    def without_temperature(self) -> nn.Module | None:
        """The part of it on which its temperature does nothing, called as the loss is. None: there is none."""
        return None

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={setting!r}" for name, setting in self.settings.items())
