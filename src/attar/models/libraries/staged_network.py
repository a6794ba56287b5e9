"""A library's network as stem, stages and head: which of its modules belong where is written down per family."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from attar.models.surgery.staged import Layout, Staged

PATH = re.compile(r"(?P<path>[\w.]+?)(\[(?P<start>-?\d*):(?P<stop>-?\d*)\])?(?P<maybe>\?)?")


class LibraryStaged(Staged):
    """The modules of a library's network in Attar's order; parameters are shared with it, not copied.

    Args:
        entry: what makes the map that enters stage 1.
        stages: the modules of each stage.
        exit: from the last stage's map to the map whose average the classifier sees; where the family does more
            after averaging than a linear layer, that map is 1x1.
        classifier: the last linear layer.
        names: the library's names of the parameters and buffers, from `names_of`.

    Attributes:
        native: the library's name for each key of the state dict.
        redraw: makes the same network anew, for `initialise`; None leaves what the layers drew themselves.
    """

    def __init__(
        self,
        entry: Sequence[nn.Module],
        stages: Sequence[Sequence[nn.Module]],
        exit: Sequence[nn.Module],
        classifier: nn.Linear,
        names: Mapping[int, str],
    ) -> None:
        groups = {"entry": entry, **{f"stage{n}": modules for n, modules in enumerate(stages, 1)}, "exit": exit}
        super().__init__(Layout(stem=("entry",), stages=tuple(groups)[1:-1], head=("exit", "linear")))
        for name, modules in groups.items():
            self.add_module(name, nn.Sequential(*modules))
        self.linear = classifier
        self.native = {key: names[id(held)] for key, held in self.state_dict(keep_vars=True).items()}
        self.redraw: Callable[[], nn.Module] | None = None
        for module in self.modules():
            if next(module.parameters(recurse=False), None) is not None and not hasattr(module, "reset_parameters"):
                # `initialise` draws those; the attribute marks that they can be drawn.
                module.reset_parameters = drawn_elsewhere  # type: ignore[assignment]

    def stem(self, images: Tensor) -> Tensor:
        return self.get_submodule("entry")(images)

    def final(self, x: Tensor) -> Tensor:
        x = self.get_submodule("exit")(x)
        return x if x.ndim == 4 else x[:, :, None, None]

    def initialise(self) -> None:
        """Everything as the library draws it, as far as the layers are still the library's."""
        if self.redraw is not None:
            copy_state(self, self.redraw())


def drawn_elsewhere() -> None:
    """Stands for a `reset_parameters` that the library's module lacks, or that would draw as torch does."""


def drawn_as_whole(net: nn.Module, redraw: Callable[[], nn.Module]) -> None:
    """Let a network that is not staged begin anew as its library draws it, whatever its modules can do alone."""
    for module in net.modules():
        module.reset_parameters = drawn_elsewhere  # type: ignore[assignment]
    net.redraw = redraw  # type: ignore[assignment]
    # A bound method follows its network when that is copied.
    net.reset_parameters = MethodType(_drawn_anew, net)  # type: ignore[assignment]


def _drawn_anew(net: Any) -> None:
    copy_state(net, net.redraw())


@torch.no_grad()
def copy_state(net: nn.Module, other: nn.Module) -> None:
    """Everything that two networks have under one name and in one shape, from the other."""
    fresh, own = other.state_dict(), net.state_dict()
    for key in own.keys() & fresh.keys():
        if own[key].shape == fresh[key].shape:
            own[key].copy_(fresh[key])


@dataclass(frozen=True)
class Family:
    """Where a family keeps its parts: module paths, "features[1:-1]" for some of a container's, "head.norm?" if there.

    Attributes:
        entry: the stem; may be empty where `units` begins with it.
        stages: one path a stage; empty where `units` are grouped instead.
        units: modules in order; a stage begins with each that makes the map smaller, and what stands before the
            first of these belongs to the entry where `opens` is set.
        exit: from the last stage to the averaged map.
        classifier: the last linear layer.
        opens: whether the units before the first that shrinks belong to the entry rather than to stage 1.
        channels_last: whether entry and stages put out (B, H, W, C).
        dropout: the attribute that holds the rate of a dropout before the classifier, or the path of its module.
        pool: the module whose pooling must be a plain average; "" where the exit has the pooling inside.
    """

    classifier: str
    entry: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    exit: tuple[str | Callable[[], nn.Module], ...] = ()
    opens: bool = False
    channels_last: bool = False
    dropout: str = ""
    pool: str = ""


def names_of(net: nn.Module) -> dict[int, str]:
    """What a network calls each of its parameters and buffers."""
    return {id(held): name for name, held in net.state_dict(keep_vars=True).items()}


def assemble(net: nn.Module, family: Family) -> LibraryStaged | None:
    """A library's network by its family's description; None where this one deviates from its family."""
    classifier = find(net, family.classifier)[0]
    if not isinstance(classifier, nn.Linear) or not averages(net, family.pool):
        return None
    entry, exit = found(net, family.entry), found(net, family.exit)
    if family.units:
        first, groups, last = grouped(entry, found(net, family.units), opens=family.opens)
        entry, exit = [*entry, *first], [*last, *exit]
    else:
        groups = [find(net, path) for path in family.stages]
    if family.channels_last:
        entry, exit = [*entry, Permute(0, 3, 1, 2)], [Permute(0, 2, 3, 1), *exit]
        groups = [[Permute(0, 2, 3, 1), *group, Permute(0, 3, 1, 2)] for group in groups]
    if rate := dropout_rate(net, family.dropout):
        # Whole channels before the average are the features after it.
        exit = [*exit, nn.Dropout2d(rate)]
    return LibraryStaged(entry, groups, exit, classifier, names_of(net))


def found(net: nn.Module, paths: Sequence[str | Callable[[], nn.Module]]) -> list[nn.Module]:
    """The modules at some paths, in order; whatever else stands there is called for one without parameters."""
    return [module for path in paths for module in (find(net, path) if isinstance(path, str) else [path()])]


def find(net: nn.Module, path: str) -> list[nn.Module]:
    """The modules that one path means.

    >>> net = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Tanh(), nn.ELU()))
    >>> find(net, "0[1:]"), find(net, "norm?")
    ([Tanh(), ELU(alpha=1.0)], [])
    """
    match = PATH.fullmatch(path)
    assert match is not None, path
    try:
        module = net.get_submodule(match["path"])
    except AttributeError:
        if match["maybe"]:
            return []
        raise
    if match["start"] is None:
        return [module]
    start, stop = (int(end) if end else None for end in (match["start"], match["stop"]))
    return list(module.children())[start:stop]


@torch.no_grad()
def grouped(
    entry: Sequence[nn.Module], units: Sequence[nn.Module], *, opens: bool
) -> tuple[list[nn.Module], list[list[nn.Module]], list[nn.Module]]:
    """Units as (what belongs to the entry, the stages, what belongs to the exit), found by running them once."""
    whole = nn.Sequential(*entry, *units)
    modes = {module: module.training for module in whole.modules()}
    whole.eval()
    conv = next(module for module in whole.modules() if isinstance(module, nn.Conv2d))
    x = torch.zeros(1, conv.in_channels, 64, 64)
    for unit in entry:
        x = unit(x)
    groups: list[list[nn.Module]] = [[]]
    for unit in units:
        side, x = x.shape[-1], unit(x)
        if x.shape[-1] < side and (groups[-1] or (opens and len(groups) == 1)):
            groups.append([])
        groups[-1].append(unit)
    for module, mode in modes.items():
        module.training = mode
    first = groups.pop(0) if opens else []
    last = [] if any(list(unit.parameters()) for unit in groups[-1]) else groups.pop()
    return first, groups, last


def averages(net: nn.Module, path: str) -> bool:
    """Whether the pooling at a path is a plain average."""
    if not path:
        return True
    pool: Any = net.get_submodule(path)
    return getattr(pool, "pool_type", "avg") == "avg"


def dropout_rate(net: nn.Module, where: str) -> float:
    """The rate of the dropout before the classifier: an attribute's, or a module's."""
    if not where:
        return 0.0
    held: Any = net
    for name in where.split("."):
        held = held[int(name)] if name.isdigit() else getattr(held, name)
    return float(held.p if isinstance(held, nn.Dropout) else 0.0 if isinstance(held, nn.Module) else held)


class Permute(nn.Module):
    """The dimensions in another order."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


def native_state(net: nn.Module) -> Mapping[str, Tensor]:
    """A network's weights under the names that its own library knows them by.

    >>> native_state(nn.Linear(2, 2)).keys()
    odict_keys(['weight', 'bias'])
    """
    state = net.state_dict()
    if not isinstance(net, LibraryStaged):
        return state
    return {net.native[key]: value for key, value in state.items()}
