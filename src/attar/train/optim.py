"""Optimisers by name."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from attar.recipe import OptimRecipe


def optimiser(parameters: list[nn.Parameter], recipe: OptimRecipe) -> Optimizer:
    """The optimiser of a recipe over everything that learns; fused, which changes no result but its rounding."""
    if recipe.name == "adamw":
        return AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=nesterov,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
