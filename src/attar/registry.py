"""A table of named things, each with a record that says what it is."""

from __future__ import annotations

import fnmatch
import functools
import importlib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from attar.errors import AttarError, unknown
from attar.plugins import function_named, names_function


class Named(Protocol):
    """What every registered record has."""

    @property
    def name(self) -> str: ...


Record = TypeVar("Record", bound=Named)


class Registry(Generic[Record]):
    """Records by name: no name twice, and an unknown one is answered with the nearest.

    Args:
        kind: what the records are ("method", "network", "data set"), used in error messages.
        builtins: a module that registers the built-in records; it is imported at the first look-up, so that the table
            itself costs nothing to import. None: whoever imports the table imports the records, too.
        wrap: wrap(name, thing) makes the record of a thing that a recipe names as module:function, or that was given
            as an object. None: this table has none such.
    """

    def __init__(
        self, kind: str, builtins: str | None = None, wrap: Callable[[str, Any], Record] | None = None
    ) -> None:
        self.kind, self._wrap = kind, wrap
        self._builtins = builtins
        self._entered: dict[str, Record] = {}
        self._given: dict[str, Record] = {}  # objects and module:function; no listing shows them

    @property
    def _records(self) -> dict[str, Record]:
        if self._builtins is not None:
            # Before the import, because the module registers its records here.
            module, self._builtins = self._builtins, None
            importlib.import_module(module)
        return self._entered

    def add(self, record: Record) -> None:
        """Enter a record; a name that is taken is refused."""
        if record.name in self._records:
            raise AttarError(f"{self.kind} {record.name!r} is registered already; choose another name")
        self._records[record.name] = record

    def put(self, name: str, thing: Any) -> None:
        """Enter the record of an object under a name, in place of an earlier one."""
        if self._wrap is None:
            raise AttarError(f"a {self.kind} cannot be given as an object; register it, and give its name")
        self._given[name] = self._wrap(name, thing)

    def __getitem__(self, name: str) -> Record:
        if name not in self:
            raise unknown(self.kind, name, self._records)
        return self._given[name] if name in self._given else self._records[name]

    def __contains__(self, name: object) -> bool:
        if name in self._records or name in self._given:
            return True
        if self._wrap is None or not isinstance(name, str) or not names_function(name):
            return False
        self.put(name, function_named(name))
        return True

    def __iter__(self) -> Iterator[str]:
        """The names, in the order in which they were registered."""
        return iter(self._records)

    def names(self, pattern: str = "*") -> list[str]:
        """The registered names that match a shell pattern ("*kd*"), sorted."""
        return sorted(fnmatch.filter(self._records, pattern))


def check_types(kind: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Hold options against a function's annotations, as far as those are numbers, texts, flags and lists.

    Args:
        kind: what the options belong to, for the message: "method 'kd'".
        function: the function or class that will get them.
        options: names and values.

    Raises:
        AttarError: a value has another type.

    >>> def scale(factor: float) -> None: ...
    >>> check_types("method 'kd'", scale, {"factor": "big"})
    Traceback (most recent call last):
    attar.errors.AttarError: method 'kd': factor must be float, got 'big'
    """
    while isinstance(function, functools.partial):
        function = function.func
    try:
        hints = get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    except NameError:  # annotations that only a type checker can read
        return
    for name, given in options.items():
        if name in hints and not _fits(given, hints[name]):
            said = getattr(hints[name], "__name__", "") if isinstance(hints[name], type) else str(hints[name])
            raise AttarError(f"{kind}: {name} must be {said.replace('collections.abc.', '')}, got {given!r}")


def _fits(given: Any, hint: Any) -> bool:
    """Whether a value may be passed where the annotation stands; annotations of other kinds allow everything."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(given, one) for one in inner)
    if hint is type(None):
        return given is None
    if hint in (int, float):
        numbers = (int, float) if hint is float else int
        return isinstance(given, numbers) and not isinstance(given, bool)
    if hint in (str, bool):
        return isinstance(given, hint)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(given, Sequence) and not isinstance(given, str) and all(_fits(one, inner[0]) for one in given)
    return True
