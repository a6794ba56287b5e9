"""Optimisers and learning-rate schedules by name: what `optim.name` and `optim.schedule` of a recipe choose from.

The tables are here, and free of torch, because the recipe checks names against them. The built-in records are in
`attar.train.optim` and `attar.train.schedules`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from attar.errors import AttarError, first_line
from attar.registry import Registry


@dataclass(frozen=True)
class OptimiserInfo:
    """An optimiser that a recipe can name.

    Attributes:
        name: the value of optim.name.
        title: one line for listings.
        make: make(parameters, optim) gives a `torch.optim.Optimizer` over a list of parameters; optim is the recipe's
            `OptimRecipe`. The training loop sets the learning rate of every parameter group at every step.
        defaults: keys of the recipe's optim section (lr, weight_decay, ...) with this optimiser's values, for a recipe
            that names it and does not give them.
    """

    name: str
    title: str
    make: Callable[..., Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScheduleInfo:
    """A learning-rate schedule that a recipe can name.

    Attributes:
        name: the value of optim.schedule.
        title: one line for listings.
        factor: factor(done, optim) gives the factor of optim.lr when `done` of the training is behind, from 0 to
            (excluded) 1.
        warmup: whether optim.warmup epochs of linear warm-up precede it.
        from_warmup: whether `done` counts from the end of the warm-up, not from the start of the training.
    """

    name: str
    title: str
    factor: Callable[..., float]
    warmup: bool = True
    from_warmup: bool = False


def _optimiser(name: str, thing: Any) -> OptimiserInfo:
    """The record of a function as in `OptimiserInfo`, or of a class of `torch.optim`."""
    if isinstance(thing, type):
        return OptimiserInfo(name, name, lambda parameters, optim: of_class(thing, parameters, optim))
    return OptimiserInfo(name, name, thing)


def of_class(cls: type, parameters: list[Any], optim: Any) -> Any:
    """An optimiser of a class, with those of lr, momentum, nesterov and weight_decay that it takes.

    Raises:
        AttarError: the class refuses one of them.
    """
    takes = inspect.signature(cls).parameters
    settings = {key: getattr(optim, key) for key in ("lr", "momentum", "weight_decay") if key in takes}
    if "nesterov" in takes:
        settings["nesterov"] = optim.nesterov and optim.momentum > 0
    groups = decay_groups(parameters, optim) if "weight_decay" in takes else parameters
    try:
        return cls(groups, **settings)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{key}={value}" for key, value in settings.items())
        raise AttarError(
            f"optim.name={cls.__name__} does not take {given} ({first_line(error)}); change these"
        ) from None


def decay_groups(parameters: list[Any], optim: Any) -> list[dict[str, Any]]:
    """Parameter groups: one, or two where vectors (norms and biases) have no weight decay.

    >>> from attar.recipe import OptimRecipe
    >>> from torch import nn
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


def _schedule(name: str, factor: Callable[..., float]) -> ScheduleInfo:
    return ScheduleInfo(name, name, factor)


OPTIMISERS: Registry[OptimiserInfo] = Registry("optimiser", "attar.train.optim", _optimiser)
SCHEDULES: Registry[ScheduleInfo] = Registry("learning-rate schedule", "attar.train.schedules", _schedule)
Make = TypeVar("Make", bound=Callable[..., Any])
Factor = TypeVar("Factor", bound=Callable[..., float])


def register_optimiser(name: str, *, title: str, **defaults: Any) -> Callable[[Make], Make]:
    """Decorator that enters a function as an optimiser; see `OptimiserInfo` for what it gets and returns.

    Args:
        name: the value of optim.name.
        title: one line for listings.
        defaults: its own lr, weight_decay or other keys of the optim section. Without an lr, recipes must give one.

    Raises:
        AttarError: the name is taken.

    >>> import torch
    >>> @register_optimiser("rmsprop", title="RMSprop", lr=0.01, weight_decay=0.0)
    ... def rmsprop(parameters, optim):
    ...     return torch.optim.RMSprop(parameters, lr=optim.lr, weight_decay=optim.weight_decay)
    >>> "rmsprop" in list_optimisers()
    True
    """

    def enter(make: Make) -> Make:
        OPTIMISERS.add(OptimiserInfo(name, title, make, defaults))
        return make

    return enter


def register_schedule(
    name: str, *, title: str, warmup: bool = True, from_warmup: bool = False
) -> Callable[[Factor], Factor]:
    """Decorator that enters a function as a learning-rate schedule; see `ScheduleInfo` for what it gets and returns.

    Raises:
        AttarError: the name is taken.

    >>> @register_schedule("square", title="the square of what is left")
    ... def square(done, optim):
    ...     return (1 - done) ** 2
    >>> SCHEDULES["square"].factor(0.5, None)
    0.25
    """

    def enter(factor: Factor) -> Factor:
        SCHEDULES.add(ScheduleInfo(name, title, factor, warmup, from_warmup))
        return factor

    return enter


def list_optimisers(pattern: str = "*") -> list[str]:
    """The registered optimisers whose name matches a shell pattern.

    >>> list_optimisers("adam*")
    ['adamw']
    """
    return OPTIMISERS.names(pattern)


def list_schedules(pattern: str = "*") -> list[str]:
    """The registered learning-rate schedules whose name matches a shell pattern.

    >>> list_schedules("co*")
    ['constant', 'cosine']
    """
    return SCHEDULES.names(pattern)
