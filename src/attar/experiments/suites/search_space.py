"""What a search varies: values of a method's options, edge weights among them, from the `search` key of its section."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attar.errors import AttarError, unknown

KEYS = ("low", "high", "log", "step", "int", "choices")


@dataclass(frozen=True)
class Space:
    """The values of one option.

    Attributes:
        low: the lowest.
        high: the highest.
        log: whether equal ratios are as likely as each other.
        step: the distance between values; None: any.
        whole: whether values are whole numbers.
        choices: the values, in place of a range.
    """

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    step: float | None = None
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Any, name: str) -> Any:
        """A value for a trial of Optuna."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


Path = tuple[str, ...]


def spaces_of(tree: Mapping[str, Any], path: Path = ()) -> dict[Path, Space]:
    """The spaces in a `search` section, by the place of their option in the method's section.

    Args:
        tree: nested like the section; each leaf [low, high], or a section of low, high, log, step, int or choices.
        path: where the tree stands.

    Raises:
        AttarError: a leaf is no space.

    >>> spaces_of({"temperature": [1, 8], "weights": {"labels->student.logits": {"choices": [0.1, 1.0]}}}).keys()
    dict_keys([('temperature',), ('weights', 'labels->student.logits')])
    """
    found: dict[Path, Space] = {}
    for key, value in tree.items():
        place = (*path, str(key))
        if isinstance(value, dict) and value and not {"low", "high", "choices"} & value.keys():
            found |= spaces_of(value, place)
        else:
            found[place] = _space(".".join(place), value)
    return found


def _space(name: str, given: Any) -> Space:
    if isinstance(given, list) and len(given) == 2:
        given = {"low": given[0], "high": given[1]}
    if not isinstance(given, dict):
        raise AttarError(f"search.{name}: expected [low, high], or a section such as {{low: 0.1, high: 10, log: true}}")
    for key in given:
        if key not in KEYS:
            raise unknown(f"key of search.{name}:", str(key), KEYS)
    if "choices" in given:
        choices = given["choices"]
        plain = isinstance(choices, list) and all(isinstance(one, str | int | float | bool) for one in choices)
        if not plain or len(choices) < 2 or len(given) > 1:
            raise AttarError(f"search.{name}: expected choices: two or more plain values, and no other key")
        return Space(choices=tuple(choices))
    low, high, step = given.get("low"), given.get("high"), given.get("step")
    numbers = all(_number(one) for one in (low, high)) and (step is None or _number(step))
    if not numbers or low >= high or (step is not None and not step > 0):  # type: ignore[operator]
        raise AttarError(f"search.{name}: expected numbers with low below high and a step above 0")
    log, whole = given.get("log", False), given.get("int", False)
    if not isinstance(log, bool) or not isinstance(whole, bool) or (log and (low <= 0 or step is not None)):  # type: ignore[operator]
        raise AttarError(f"search.{name}: expected log and int to be true or false; log takes low above 0 and no step")
    return Space(low, high, log, step, whole)  # type: ignore[arg-type]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def chosen(section: Mapping[str, Any], values: Mapping[Path, Any]) -> dict[str, Any]:
    """A method's section with the values of a trial.

    >>> chosen({"name": "kd"}, {("weights", "labels->student.logits"): 0.5})
    {'name': 'kd', 'weights': {'labels->student.logits': 0.5}}
    """
    found: dict[str, Any] = copy.deepcopy({key: value for key, value in section.items() if key != "search"})
    for path, value in values.items():
        inner = found
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = value
    return found


def suggested(spaces: Mapping[Path, Space], trial: Any) -> dict[Path, Any]:
    """A value of every space for a trial of Optuna; three digits are enough of a number."""
    values = {path: space.suggest(trial, ".".join(path)) for path, space in spaces.items()}
    return {path: float(f"{value:.3g}") if isinstance(value, float) else value for path, value in values.items()}
