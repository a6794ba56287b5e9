"""Parameters with a multiple of the learning rate: blocks near the input, and networks that a method moves slowly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

# The entry of a parameter group that multiplies the learning rate.
SCALE = "lr_scale"
# A block of a network in the name of a parameter: up to its first number, and on as long as numbered parts stand right
# behind it or in what libraries call a stage's blocks ("blocks.3", "layer2.0", "stages.1.blocks.2", "s1.b2"). What a
# staged library network has before and after its stages ("entry", "exit") holds no block; methods wrap it as "module".
INNER = r"(?:(?:blocks|layers)\.)?(?:b|denselayer|block\d+-)?\d+"
BLOCK = re.compile(rf"^(?!(?:module\.)?(?:entry|exit)\.)(.*?\d+(?:\.{INNER})*)\.")


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

    What a stage has beside its blocks, to make the map smaller, belongs to its first one, as in timm.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    >>> list(layer_depths(net).values())
    [1, 2]
    """
    named = [(BLOCK.match(name), parameter) for name, parameter in net.named_parameters()]
    numbers = block_numbers([block[1] for block, _ in named if block])
    found: dict[int, int] = {}
    begun = False
    for block, parameter in named:
        begun = begun or block is not None
        found[id(parameter)] = numbers[block[1]] if block else begun * (1 + max(numbers.values(), default=0))
    return found


def block_numbers(names: Sequence[str]) -> dict[str, int]:
    """The number of each block, from 1; a name inside which others stand has the number of the first of these.

    >>> block_numbers(["stages.0", "stages.0.blocks.0", "stages.0.blocks.1"])
    {'stages.0': 1, 'stages.0.blocks.0': 1, 'stages.0.blocks.1': 2}
    """
    within = {name: [one for one in names if one.startswith(f"{name}.")] for name in names}
    blocks = [name for name, inner in within.items() if not inner]
    return {name: 1 + blocks.index(inner[0] if inner else name) for name, inner in within.items()}
