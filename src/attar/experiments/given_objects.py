"""Objects in place of a recipe's names: networks, data, and parts such as optimisers, metrics and callbacks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import Any

from torch import nn

from attar.choices import OPTIMISERS, SCHEDULES
from attar.data.transforms.registry import AUGMENTATIONS
from attar.errors import AttarError
from attar.metrics.registry import METRICS
from attar.models.copying import copied
from attar.models.registry import MODELS
from attar.plugins import import_named, name_of
from attar.recipe import Recipe
from attar.registry import Registry
from attar.tasks import Task
from attar.track.tracker import TRACKERS

GIVEN = "given:"


@dataclass(frozen=True)
class Given:
    """Objects that stand in for names of a recipe; the names they get begin with GIVEN.

    Attributes:
        teachers: trained networks.
        student: the network to train; every training starts from a copy of it.
        data: what `load_data` takes besides names, a data set, a pair of them, `Splits`; or `TensorSplits`.
        task: what is learnt.
        parts: the names of optimisers, schedules, metrics, augmentations and callbacks that no module has.
    """

    teachers: tuple[nn.Module, ...] = ()
    student: nn.Module | None = None
    data: Any = None
    task: Task | None = None
    parts: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is one."""
        objects = (self.student, self.data, self.task)
        return bool(self.teachers or self.parts) or any(one is not None for one in objects)


def take_objects(values: dict[str, Any]) -> tuple[dict[str, Any], Given]:
    """Recipe values in which objects are replaced by names, and the objects.

    A function or class that stands in a module gets the name module:function, by which a resumed run finds it again.

    Raises:
        AttarError: teachers are names and networks in one list, or a function that makes a network or data stands in no
            module.
    """
    import_named(values)
    values, given = {key: _made_by_name(key, value) for key, value in values.items()}, Given()
    values, parts = take_parts(values)
    given = replace(given, parts=parts)
    teacher = values.get("teacher")
    if isinstance(teacher, nn.Module):
        teacher = [teacher]
    if isinstance(teacher, Sequence) and not isinstance(teacher, str) and teacher:
        if not all(isinstance(one, nn.Module) for one in teacher):
            raise AttarError("teacher: give names, or networks, not both in one list; several names as 'a,b'")
        given = replace(given, teachers=tuple(teacher))
        values["teacher"] = {"name": ",".join(named(one) for one in teacher)}
    if isinstance(values.get("student"), nn.Module):
        given = replace(given, student=values["student"])
        values["student"] = {"name": named(values["student"])}
    data = values.get("data")
    if isinstance(data, dict) and not isinstance(data.get("name", ""), str):
        given = replace(given, data=data["name"])
        values["data"] = {**data, "name": named(data["name"])}
    elif data is not None and not isinstance(data, str | dict):
        given = replace(given, data=data)
        values["data"] = {"name": named(data)}
    task = values.get("task")
    if task is not None and not isinstance(task, str | dict):
        given = replace(given, task=task)
        values["task"] = {"name": named(task)}
    return values, given


def _made_by_name(key: str, value: Any) -> Any:
    """module:function of a function that makes a network, data or a task; a path as text; other values as they are.

    Raises:
        AttarError: it stands in no module.
    """
    if isinstance(value, Path):
        return str(value)
    if key not in ("teacher", "student", "data", "task") or isinstance(value, nn.Module):
        return value
    if not isinstance(value, type | FunctionType):
        return value
    if (name := name_of(value)) is None:
        raise AttarError(f"{key}: {value.__name__} stands in no module; call it, and give what it returns")
    return name


def take_parts(values: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Recipe values in which optimisers, schedules, metrics, augmentations and callbacks are names in their tables.

    Returns:
        The values, and the names of those that stand in no module.
    """
    given: dict[str, Any] = {}

    def name(table: Registry[Any], thing: Any) -> Any:
        if isinstance(thing, str):
            return thing
        found = name_of(thing)
        if found is None:
            own = str(getattr(thing, "name", None) or getattr(thing, "__name__", type(thing).__name__))
            found = _free_name(GIVEN + re.sub(r"\W", "", own), thing, given)
            table.put(found, thing)
            given[found] = thing
        return found

    values = dict(values)
    if isinstance(optim := values.get("optim"), dict):
        tables: dict[str, Registry[Any]] = {"name": OPTIMISERS, "schedule": SCHEDULES}
        values["optim"] = {key: name(tables[key], one) if key in tables else one for key, one in optim.items()}
    lists: dict[str, Registry[Any]] = {"metrics": METRICS, "track": TRACKERS}
    for key, table in lists.items():
        if (several := values.get(key)) is not None and not isinstance(several, str):
            values[key] = [name(table, one) for one in (several if isinstance(several, list | tuple) else [several])]
    if isinstance(data := values.get("data"), dict) and isinstance(augment := data.get("augment"), dict):
        values["data"] = {**data, "augment": {name(AUGMENTATIONS, key): one for key, one in augment.items()}}
    return values, tuple(given)


def _free_name(name: str, thing: Any, given: dict[str, Any]) -> str:
    """A name, with a number where another object has it, as all lambdas would.

    >>> _free_name("given:lambda", print, {"given:lambda": len})
    'given:lambda2'
    """
    names = (name + (str(number) if number > 1 else "") for number in itertools.count(1))
    return next(one for one in names if given.get(one, thing) is thing)


def named(thing: object) -> str:
    """What an object is called in a recipe.

    >>> named(nn.Linear(1, 1))
    'given:Linear'
    """
    return GIVEN + type(thing).__name__


def take_candidates(among: Sequence[Any]) -> tuple[tuple[str, ...], dict[str, nn.Module]]:
    """Names of candidates for a student, in which functions and networks are replaced by names, and the networks.

    A network gets a name in the table of networks, so that it is measured as all others are.

    Raises:
        AttarError: a function that stands in no module, or something that makes no network.
    """
    names: list[str] = []
    networks: dict[str, nn.Module] = {}
    for one in among:
        if isinstance(one, nn.Module):
            same = sum(type(net) is type(one) for net in networks.values())
            name = named(one) + (str(same + 1) if same else "")
            networks[name] = one
            MODELS.put(name, lambda net=one: copied(net))
        else:
            name = _made_by_name("student", one)
        if not isinstance(name, str):
            raise AttarError(f"among: expected names, functions or networks, got {type(one).__name__}")
        names.append(name)
    import_named(names)
    return tuple(names), networks


def refuse_given(recipe: Recipe) -> None:
    """A run of objects cannot be built again from its folder.

    Raises:
        AttarError: the recipe names an object that was given.
    """
    for key in ("teacher", "student", "data", "task"):
        name = getattr(recipe, key).name
        if GIVEN in name:
            raise AttarError(
                f"this run's {key} was an object in Python ({name}), so its folder cannot rebuild it; give a function "
                "of a module that makes it"
            )
