"""The file of a suite: read, and checked key by key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from attar.errors import AttarError, unknown
from attar.recipe import load_yaml, parse

KEYS = ("recipe", "pairs", "methods", "seeds", "control")
# Keys of earlier versions, and what to do about them.
REMOVED = {"together": "it is gone, and runs share their images and engines without it; leave it out"}
# More runs than anybody waits for; above it a mistyped number would only fill the memory.
MOST_RUNS = 100_000


def load_suite(path: Path) -> dict[str, Any]:
    """A suite with every key of the right shape: recipe, pairs, methods, seeds (as a list) and control.

    Raises:
        AttarError: the file is missing or is no YAML, or a key is unknown, missing or of another shape.
    """
    suite = load_yaml(path, "suite")
    for key in suite:
        if key not in KEYS:
            raise unknown_key(str(key), KEYS)
    if not suite.get("methods") or not suite.get("pairs"):
        raise AttarError(f"suite {str(path)!r} needs `methods` and `pairs`; `attar bench --help` shows one")
    seeds = 1 if suite.get("seeds") is None else suite["seeds"]
    suite = {"control": None, **suite, "recipe": suite.get("recipe") or {}}
    for key, what, holds in (
        ("recipe", "a section of keys", isinstance(suite["recipe"], dict)),
        ("pairs", "a list of sections with a teacher and a student", _all(suite["pairs"], dict)),
        ("methods", "a list of names, or of sections with a name", _all(suite["methods"], str | dict)),
        ("methods", "a name in every section", _all_named(suite["methods"])),
        ("seeds", "a whole number from 1, or a list of different seeds such as [3, 7]", _are_seeds(seeds)),
        ("control", "the name of a method, or of a row of the table", isinstance(suite["control"], str | None)),
    ):
        if not holds:
            raise AttarError(f"{key} of suite {str(path)!r}: expected {what}; `attar bench --help` shows one")
    count = seeds if isinstance(seeds, int) else len(seeds)
    if count * _count(suite["pairs"]) * _count(suite["methods"]) > MOST_RUNS:
        raise AttarError(f"suite {str(path)!r} asks for more than {MOST_RUNS} runs; give fewer seeds or values")
    return {**suite, "seeds": list(range(seeds)) if isinstance(seeds, int) else seeds}


@dataclass(frozen=True)
class Options:
    """What stands beside a suite on the command line.

    Attributes:
        recipe: changes to the common recipe.
        out: the suite's folder; None: one that follows from its name.
        jobs: how many processes at a time; None: found by trying.
        share: (K, N): only the K-th of N parts of the runs; None: all.
    """

    recipe: list[str]
    out: str | None = None
    jobs: int | None = None
    share: tuple[int, int] | None = None

    @classmethod
    def of(cls, overrides: list[str]) -> Options:
        """The options among key=value arguments.

        Raises:
            AttarError: one has another form, or is of an earlier version.

        >>> Options.of(["epochs=3", "jobs=2", "share=1/4"])
        Options(recipe=['epochs=3'], out=None, jobs=2, share=(1, 4))
        """
        given, recipe = dict[str, str](), []
        for override in overrides:
            key, _, value = override.partition("=")
            if key in REMOVED:
                raise unknown_key(key, ())
            if key in ("out", "jobs", "share"):
                given[key] = value
            else:
                recipe.append(override)
        out, jobs, share = (given.get(key) for key in ("out", "jobs", "share"))
        if out == "":
            raise AttarError("out= needs a folder, such as out=runs/suite")
        return cls(recipe, out, None if jobs is None else _jobs(jobs), None if share is None else _share(share))


def _jobs(value: str) -> int:
    if not (value.isdecimal() and int(value) > 0):
        raise AttarError(f"jobs must be a whole number from 1, got {value!r}")
    return int(value)


def _share(value: str) -> tuple[int, int]:
    number, _, count = value.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise AttarError(f"share must be K/N with K from 1 to N, such as 1/4, got {value!r}")
    return int(number), int(count)


def unknown_key(key: str, known: Iterable[str]) -> AttarError:
    """The error for a key that suites do not have, or no longer have."""
    if key in REMOVED:
        return AttarError(f"unknown key of a suite: {key!r}; {REMOVED[key]}")
    return unknown("key of a suite:", key, known)


def parsed(overrides: list[str]) -> list[dict[str, Any]]:
    """Overrides of a suite's recipe, each a tree."""
    return [parse(override) for override in overrides]


def _all(given: Any, kind: Any) -> bool:
    return isinstance(given, list) and all(isinstance(one, kind) for one in given)


def _all_named(methods: Any) -> bool:
    return _all(methods, str | dict) and all(isinstance(m, str) or isinstance(m.get("name"), str) for m in methods)


def _are_seeds(given: Any) -> bool:
    if isinstance(given, list):
        return bool(given) and len(set(map(str, given))) == len(given) and all(type(one) is int for one in given)
    return type(given) is int and given > 0


def _count(given: Any) -> int:
    """How many combinations the lists of sections make.

    >>> _count([{"name": "kd", "temperature": [2, 4]}, "dkd"])
    3
    """
    return sum(_combinations(section) for section in given)


def _combinations(section: Any) -> int:
    if not isinstance(section, dict):
        return 1
    own = [value for key, value in section.items() if key != "search"]
    return prod(_combinations(value) if isinstance(value, dict) else len(value) or 1 for value in own if _many(value))


def _many(value: Any) -> bool:
    return isinstance(value, dict | list)
