"""Optimisers by name."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from attar.choices import OPTIMISERS, register_optimiser
from attar.recipe import OptimRecipe


def optimiser(parameters: list[nn.Parameter], recipe: OptimRecipe) -> Optimizer:
    """The optimiser that a recipe names, over everything that learns."""
    made: Optimizer = OPTIMISERS[recipe.name].make(parameters, recipe)
    return made


# Fused, which changes no result but its rounding.
@register_optimiser("sgd", title="SGD with optim.momentum, L2 penalty optim.weight_decay")
def sgd(parameters: list[nn.Parameter], optim: OptimRecipe) -> Optimizer:
    """Stochastic gradient descent with (Nesterov) momentum."""
    return SGD(
        decay_groups(parameters, optim),
        lr=optim.lr,
        momentum=optim.momentum,
        nesterov=optim.nesterov and optim.momentum > 0,
        weight_decay=optim.weight_decay,
        fused=True,
    )


@register_optimiser("adamw", title="AdamW (arXiv:1711.05101), decoupled optim.weight_decay")
def adamw(parameters: list[nn.Parameter], optim: OptimRecipe) -> Optimizer:
    """Adam with decoupled weight decay."""
    return AdamW(decay_groups(parameters, optim), lr=optim.lr, weight_decay=optim.weight_decay, fused=True)


def decay_groups(parameters: list[nn.Parameter], optim: OptimRecipe) -> list[dict[str, Any]]:
    """Parameter groups: one, or two where vectors (norms and biases) have no weight decay.

    >>> parameters = list(nn.Linear(2, 3).parameters())
    >>> [len(group["params"]) for group in decay_groups(parameters, OptimRecipe(decay_vectors=False))]
    [1, 1]
    """
    if optim.decay_vectors:
        return [{"params": parameters}]
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
