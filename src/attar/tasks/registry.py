"""The table of tasks: what each is called, and which data sources are for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from attar.errors import unknown
from attar.metrics import Metrics
from attar.metrics.registry import Extended
from attar.recipe import Recipe
from attar.registry import Registry, check_types
from attar.tasks.base import Task

DEFAULT = "classification"


@dataclass(frozen=True)
class TaskInfo:
    """What the registry holds of a task.

    Attributes:
        name: what it is called in recipes.
        make: called with the task's settings.
        data: the data sources that are for this task, so that a recipe which names one need not name the task.
    """

    name: str
    make: Callable[..., Task]
    data: tuple[str, ...] = ()


TASKS: Registry[TaskInfo] = Registry("task", "attar.tasks", TaskInfo)
Make = TypeVar("Make", bound=Callable[..., Any])


def register_task(name: str, *, data: tuple[str, ...] = ()) -> Callable[[Make], Make]:
    """Decorator that enters a task's class under a name; see `TaskInfo`."""

    def enter(make: Make) -> Make:
        TASKS.add(TaskInfo(name, make, data))
        return make

    return enter


class Scored:
    """A task that is scored by registered metrics, too.

    Args:
        task: all but `metrics` is its own.
        names: of the registered metrics.

    Raises:
        AttarError: a name is unknown, or the task has a measure of that name.
    """

    def __init__(self, task: Task, names: tuple[str, ...]) -> None:
        self._task, self._names = task, names
        self.metrics()

    def metrics(self) -> Metrics:
        """The task's, with the registered ones beside them."""
        return Extended(self._task.metrics(), self._names)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is unpickled or copied, there is no task yet
            raise AttributeError(name)
        return getattr(self._task, name)


def create_task(name: str = DEFAULT, **settings: Any) -> Task:
    """A task by name, with its settings.

    >>> create_task("language", divergence="reverse").output
    'logits'
    """
    return TASKS[name].make(**settings)


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe, with its settings.

    Raises:
        AttarError: the task or a setting of it is unknown, or of another type.

    >>> from attar.recipe import read_recipe
    >>> task_of(read_recipe(data="text", task={"divergence": "reverse"})).divergence
    'reverse'
    """
    info, options = TASKS[task_name(recipe.task.name, recipe.data.name)], recipe.task.options
    known = [name for name in inspect.signature(info.make).parameters if name != "output"]
    for option in options:
        if option not in known:
            raise unknown(f"setting of task {info.name!r}:", option, known)
    check_types(f"task {info.name!r}", info.make, options)
    return with_metrics(info.make(**options), recipe.metrics)


def with_metrics(task: Task, names: Sequence[str]) -> Task:
    """The task, scored by these registered metrics, too."""
    return cast(Task, Scored(task, tuple(names))) if names else task


def list_tasks(pattern: str = "*") -> list[str]:
    """The registered tasks whose name matches a shell pattern.

    >>> list_tasks("d*")
    ['density']
    """
    return TASKS.names(pattern)


def data_names() -> list[str]:
    """The data sources that tasks load themselves."""
    return [data for name in TASKS for data in TASKS[name].data]


def task_name(named: str, data: str) -> str:
    """Which task a recipe means: the one it names, else the one its data are for, else classification.

    >>> task_name("", "text"), task_name("", "digits")
    ('language', 'classification')
    """
    if named:
        return TASKS[named].name
    return next((name for name in TASKS if data in TASKS[name].data), DEFAULT)
