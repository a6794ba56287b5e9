"""The recipe's keys as typed keyword arguments: for editors by `Unpack`, for help() and notebooks by the signature."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, get_type_hints

from attar.recipe.schema import Recipe

# A name, a section of keys, or an object or a function in place of a name.
Section = str | Mapping[str, Any] | Any
Function = TypeVar("Function", bound=Callable[..., Any])


class RecipeKeys(TypedDict, total=False):
    """Every key of `Recipe` as `attar.distill` takes it."""

    teacher: Section
    student: Section
    chain: Sequence[str]
    chain_from: str
    data: Section
    task: Section
    method: str | Mapping[str, Any]
    optim: Mapping[str, Any]
    epochs: int
    batch_size: int
    seed: int
    seeds: int
    alone: str
    patience: int | None
    select: str
    precision: str
    compile: bool | None
    device: str
    jobs: int | None
    checkpoint_minutes: float
    metrics: str | Sequence[Any]
    track: str | Sequence[Any] | Callable[..., Any]
    export: str | Sequence[str]
    out: str | None


class SearchKeys(RecipeKeys, total=False):
    """The same with what `attar.search` looks for; its student is left out."""

    latency: str
    size: str
    macs: str
    params: str
    memory: str
    within: float | None
    candidates: int
    among: str | Sequence[str | Any] | Any


def with_keys(keys: type) -> Callable[[Function], Function]:
    """Decorator that shows the keys of a TypedDict, with the recipe's defaults, in the signature of a function.

    >>> @with_keys(RecipeKeys)
    ... def train(recipe: str | None = None, **values: Any) -> None: ...
    >>> print(inspect.signature(train).parameters["epochs"])
    epochs: int = 10
    """

    def enter(function: Function) -> Function:
        own = inspect.signature(function, eval_str=True)
        plain = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
        named = [keyword(key, hint) for key, hint in get_type_hints(keys).items()]
        function.__signature__ = own.replace(parameters=[*plain, *named])  # type: ignore[attr-defined]
        return function

    return enter


def keyword(key: str, hint: Any) -> inspect.Parameter:
    """One key as a keyword argument with the recipe's default; of a section, and of a key of a search, None."""
    defaults = {one.name: one.default for one in dataclasses.fields(Recipe)}
    default = defaults.get(key, dataclasses.MISSING)
    shown = None if default is dataclasses.MISSING else default
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=shown, annotation=hint)
