"""The table of data sets: what each holds, and the function that loads it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from attar.data.images import Splits
from attar.registry import Registry


@dataclass(frozen=True)
class DatasetInfo:
    """The registry's record of a data set.

    Attributes:
        name: what it is called in recipes.
        title: its full name.
        source: where it comes from.
        flip: whether a mirrored image is still of its class.
        load: load(root, download, image_size, **options) gives train and test, and val where the data have one.
    """

    name: str
    title: str
    source: str
    flip: bool
    load: Callable[..., Splits]

    @property
    def options(self) -> tuple[str, ...]:
        """The settings of this data set alone."""
        parameters = inspect.signature(self.load).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


DATASETS: Registry[DatasetInfo] = Registry("data set")
Load = TypeVar("Load", bound=Callable[..., Splits])


def register_dataset(name: str, *, title: str, source: str, flip: bool) -> Callable[[Load], Load]:
    """Decorator that enters a loading function under a name; see `DatasetInfo` for the fields."""

    def enter(load: Load) -> Load:
        DATASETS.add(DatasetInfo(name, title, source, flip, load))
        return load

    return enter


def dataset_info(name: str) -> DatasetInfo:
    """The record of one data set; an unknown name is answered with the nearest."""
    return DATASETS[name]


def list_datasets(pattern: str = "*") -> list[str]:
    """The registered data sets whose name matches a shell pattern.

    >>> list_datasets("cifar*")
    ['cifar10', 'cifar100']
    """
    return DATASETS.names(pattern)
