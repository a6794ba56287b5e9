"""Bifurcation: side branches that fork from the stages of a staged network, each with its own depth and width."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from attar.errors import AttarError, PairError, unknown
from attar.knowledge import Output
from attar.models.create import create_model, model_info
from attar.models.surgery.reinitialise import fresh_copy
from attar.models.surgery.staged import Staged

# What a stage has: a number, or one for each of its groups of blocks (MobileNetV2).
Measure = int | Sequence[int]


@dataclass(frozen=True)
class Branch:
    """One branch: where it forks, and how it differs from the path of the trunk that it runs beside.

    Attributes:
        stage: the stage (from 1) at whose end it forks.
        depth_ratio: each remaining stage has max(1, ceil(ratio * blocks of the trunk)) blocks.
        width_mult: each remaining stage has round(mult * channels of the trunk) channels.
        group: a name for those it belongs to; "" leaves it to the method.
        parent: the branch it forks from; "" is the trunk.
        name: what it is called; "" becomes "branchS_N", the N-th of those that fork at stage S.
    """

    stage: int
    depth_ratio: float = 0.5
    width_mult: float = 2.0
    group: str = ""
    parent: str = ""
    name: str = ""


class Shape(NamedTuple):
    """Blocks and channels of a network as its constructor takes them; a family may count its stem in."""

    depths: tuple[Measure, ...]
    widths: tuple[Measure, ...]


class Branched(nn.Module):
    """A trunk and the branches that grow from it; the trunk's part before a fork is shared, not copied.

    Args:
        trunk: the staged network that is deployed.
        branches: each branch's own layers, by name.
        forks: each branch's configuration, by name.
        ilr: divide the gradient that enters a fork by its number of children, the trunk's own path included.
    """

    def __init__(
        self, trunk: Staged, branches: Mapping[str, nn.Module], forks: Mapping[str, Branch], ilr: bool = False
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.branches = nn.ModuleDict(branches)
        self.forks = dict(forks)
        self.ilr = ilr

    def forward(self, images: Tensor) -> tuple[Output, dict[str, Output]]:
        """The outputs of the trunk and of each branch, with the taps "pooled" and every stage that it ran."""
        outputs: dict[str, Output] = {}
        trunk = self._grow("", self.trunk, self.trunk.stem(images), 0, outputs)
        return trunk, {name: outputs[name] for name in self.forks}

    def _grow(self, name: str, net: Staged, x: Tensor, start: int, outputs: dict[str, Output]) -> Output:
        """Run one path from stage `start` on, and everything that forks from it."""
        stages: dict[str, Tensor] = {}
        for number in range(start + 1, len(net.layout.stages) + 1):
            x, _ = net.run_stage(number - 1, x)
            stages[f"stage{number}"] = x
            children = [child for child, fork in self.forks.items() if (fork.parent, fork.stage) == (name, number)]
            if children and self.ilr:
                x = DividedGradient.apply(x, len(children) + 1)
            for child in children:
                outputs[child] = self._grow(child, cast(Staged, self.branches[child]), x, number, outputs)
        output = net.resume(x, len(net.layout.stages), ["pooled"])
        return Output(output.logits, {**stages, **output.taps})


class DividedGradient(torch.autograd.Function):
    """The identity, whose gradient is divided by a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, by: int) -> Tensor:
        ctx.by = by
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] / ctx.by, None


def bifurcate(net: Staged, branches: Sequence[Branch | Mapping[str, Any]], ilr: bool = False) -> Branched:
    """Let branches fork from a staged network.

    A branch has the blocks, strides, norms and initialisation of the network's family, and its own pooling and
    classifier. Networks of the zoo can be given any depth and width; a staged network made by hand only branches
    that are like itself (depth_ratio=1, width_mult=1).

    Args:
        net: the trunk; it is shared, not copied.
        branches: each a `Branch` or a mapping of its fields; parents come before their children.
        ilr: see `Branched`.

    Raises:
        AttarError: a fork that does not exist, a shape the family cannot build, or an unknown field.

    >>> net = bifurcate(create_model("resnet32"), [Branch(stage=1), Branch(stage=2), Branch(stage=2, depth_ratio=0.2)])
    >>> {name: sum(p.numel() for p in branch.parameters()) for name, branch in net.branches.items()}
    {'branch1_1': 1029348, 'branch2_1': 792932, 'branch2_2': 202084}
    """
    forks = named(branches)
    trunk = shape_of(net)
    shapes, parts = {"": trunk}, {}
    for name, fork in forks.items():
        check_fork(net, name, fork, forks)
        shapes[name] = beside(trunk, shapes[fork.parent], fork, len(net.layout.stages)) if trunk else None
        parts[name] = branch_part(net, shapes[name], fork)
    return Branched(net, parts, forks, ilr)


def default_branches(net: Staged, depth_ratio: float = 0.5, width_mult: float = 2.0, replicas: int = 2) -> list[Branch]:
    """Like branches at the end of every stage but the last, `replicas` at each.

    >>> [branch.stage for branch in default_branches(create_model("resnet32"))]
    [1, 1, 2, 2]
    """
    stages = range(1, len(net.layout.stages))
    return [Branch(stage, depth_ratio, width_mult) for stage in stages for _ in range(replicas)]


def named(branches: Sequence[Branch | Mapping[str, Any]]) -> dict[str, Branch]:
    """The branches by name, those without one numbered within their stage."""
    known = [field.name for field in fields(Branch)]
    forks: dict[str, Branch] = {}
    numbers: Counter[int] = Counter()
    for entry in branches:
        if isinstance(entry, Mapping):
            if wrong := [key for key in entry if key not in known]:
                raise unknown("field of a branch", str(wrong[0]), known)
            if "stage" not in entry:
                raise AttarError(f"the branch {dict(entry)} has no stage; give stage=, counted from 1")
            entry = Branch(**entry)
        numbers[entry.stage] += 1
        name = entry.name or f"branch{entry.stage}_{numbers[entry.stage]}"
        if not name.isidentifier() or name in forks:
            raise AttarError(f"the branch name {name!r} is taken or not one word; choose another")
        forks[name] = entry
    return forks


def check_fork(net: Staged, name: str, fork: Branch, forks: Mapping[str, Branch]) -> None:
    """A branch must fork after a stage, not the last, of a path that exists before it."""
    last = len(net.layout.stages) - 1
    if not 1 <= fork.stage <= last:
        raise AttarError(f"{name} forks at stage {fork.stage}; {type(net).__name__} can fork at stages 1..{last}")
    if not (fork.depth_ratio > 0 and fork.width_mult > 0):
        raise AttarError(f"{name}: depth_ratio {fork.depth_ratio} and width_mult {fork.width_mult} must be above 0")
    if fork.parent:
        earlier = list(forks)[: list(forks).index(name)]
        if fork.parent not in earlier:
            raise unknown(f"parent of {name}:", fork.parent, earlier)
        if forks[fork.parent].stage >= fork.stage:
            raise AttarError(f"{name} forks at stage {fork.stage}, where its parent has no stage; fork it later")


def shape_of(net: Staged) -> Shape | None:
    """Blocks and channels of a network of the zoo; None where the network is made by hand."""
    if net.spec is None or "name" not in net.spec:
        return None
    defaults = inspect.signature(model_info(net.spec["name"]).build).parameters
    depths, widths = (tuple(net.spec.get(key, defaults[key].default)) for key in ("depths", "widths"))
    return Shape(depths, widths)


def beside(trunk: Shape, parent: Shape | None, fork: Branch, stages: int) -> Shape:
    """The parent's shape up to the fork, then the trunk's, shallower and wider."""
    assert parent is not None
    shared = fork.stage + len(trunk.depths) - stages
    depths = [scaled(depth, lambda blocks: max(1, math.ceil(blocks * fork.depth_ratio))) for depth in trunk.depths]
    widths = [scaled(width, lambda channels: round(channels * fork.width_mult)) for width in trunk.widths]
    return Shape((*parent.depths[:shared], *depths[shared:]), (*parent.widths[:shared], *widths[shared:]))


def scaled(measure: Measure, scale: Callable[[int], int]) -> Measure:
    """A stage's number scaled, or each of its groups' numbers."""
    return scale(measure) if isinstance(measure, int) else tuple(scale(part) for part in measure)


def branch_part(net: Staged, shape: Shape | None, fork: Branch) -> Staged:
    """The layers of a branch: what comes after the fork in a network of its shape."""
    below = ("stem", *(f"stage{number}" for number in range(1, fork.stage + 1)))
    if shape is None:
        if (fork.depth_ratio, fork.width_mult) != (1, 1):
            raise PairError(
                f"{type(net).__name__} is no network of the zoo and can only branch like itself: give depth_ratio=1 "
                "and width_mult=1 where the method has these options"
            )
        return fresh_copy(net.without(*below))
    try:
        whole = create_model(**{**net.spec, **shape._asdict()})  # type: ignore[dict-item]
    except ValueError as error:
        raise AttarError(
            f"{type(net).__name__} cannot have widths {shape.widths}: {error}; change width_mult"
        ) from None
    return whole.without(*below)
