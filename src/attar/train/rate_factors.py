"""Parameters with a multiple of the learning rate: blocks near the input, and networks that a method moves slowly."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

# The entry of a parameter group that multiplies the learning rate.
SCALE = "lr_scale"
# A block of a network in the name of a parameter: up to its first number, and a second one right behind it or one
# name further ("blocks.3", "layer2.0", "stages.1.blocks.2").
BLOCK = re.compile(r"^(.*?\.?[A-Za-z_]*\d+(?:\.(?:[A-Za-z_]+\.)?\d+)?)\.")


def scale_by_layer(optimiser: torch.optim.Optimizer, method: nn.Module, decay: float) -> None:
    """Part an optimiser's groups so that each block of the student has its share of the learning rate.

    The classifier and whatever else learns have all of it, the last block `decay` times as much, and so on down to the
    input (BEiT, arXiv:2106.08254, Appendix; ELECTRA, arXiv:2003.10555). Call it before the first step.

    Args:
        optimiser: of the method's parameters.
        method: whose attribute `student` is the network; without one every block of the method counts.
        decay: the learning rate of a block as a multiple of the next one's.
    """
    student = getattr(method, "student", None)
    depths = layer_depths(student if isinstance(student, nn.Module) else method)
    last = max(depths.values(), default=0)
    scale(optimiser, {key: decay ** (last - depth) for key, depth in depths.items()})


def scale_by_network(optimiser: torch.optim.Optimizer, factors: dict[nn.Module, float]) -> None:
    """Give the parameters of each network its multiple of the learning rate (`Method.rate_factors`)."""
    scale(optimiser, {id(p): factor for net, factor in factors.items() for p in net.parameters()})


def scale(optimiser: torch.optim.Optimizer, factors: dict[int, float]) -> None:
    """Part an optimiser's groups by the factors of their parameters, which are named by their id; 1 where none is."""
    groups: list[dict[str, Any]] = []
    for group in optimiser.param_groups:
        parts: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
        for factor, parameters in sorted(parts.items()):
            groups.append({**group, "params": parameters, SCALE: group.get(SCALE, 1.0) * factor})
    optimiser.param_groups = groups


def layer_depths(net: nn.Module) -> dict[int, int]:
    """The depth of every parameter by its id: 0 before the first block, one more for each block, the last for the head.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    >>> list(layer_depths(net).values())
    [1, 2]
    """
    blocks: dict[str, int] = {}
    found: dict[int, int] = {}
    before: list[nn.Parameter] = []
    after: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        if block := BLOCK.match(name):
            found[id(parameter)] = blocks.setdefault(block[1], len(blocks) + 1)
        else:
            (after if blocks else before).append(parameter)
    found |= {id(parameter): 0 for parameter in before}
    return found | {id(parameter): len(blocks) + 1 for parameter in after}
