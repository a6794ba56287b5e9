"""Settings of a recipe for the losses from labels: smoothing, and weights of classes."""

from __future__ import annotations

from typing import Any

from torch import nn

from attar.knowledge import owner
from attar.methods import Method


def smooth_labels(method: Method, amount: float) -> str | None:
    """Set label smoothing in every loss from the labels that has it, mixed ones too; a warning where none has."""
    return set_in_losses(method, "label_smoothing", amount, "optim.label_smoothing changes") if amount else None


def weigh_labels(method: Method, weights: tuple[float, ...] | None) -> str | None:
    """Set class weights in every loss from the labels that has them, mixed ones too; a warning where none has."""
    return None if weights is None else set_in_losses(method, "class_weights", weights, "data.class_weights change")


def set_in_losses(method: Method, name: str, value: Any, what: str) -> str | None:
    """Set an attribute of the losses from the labels, also of a loss within another, which computes it at every token.

    Args:
        method: whose edges have the losses.
        name: of the attribute.
        value: what it becomes.
        what: the setting, for the warning.
    """
    found = [one for edge in method.edges if owner(edge.source) == "labels" for one in having(edge.loss, name)]
    for loss in found:
        setattr(loss, name, value)
    return None if found else f"warning: {method.name!r} has no cross-entropy with the labels, so {what} nothing in it"


def having(loss: nn.Module, name: str) -> list[nn.Module]:
    """Of a loss and those in it the ones with an attribute."""
    return [part for part in loss.modules() if hasattr(part, name)]
