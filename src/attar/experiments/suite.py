"""The file of a suite: read, and checked key by key."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attar.errors import AttarError, unknown
from attar.recipe import load_yaml, parse

KEYS = ("recipe", "pairs", "methods", "seeds")
# Keys of earlier versions, and what to do about them.
REMOVED = {"together": "it is gone, and runs share their images and engines without it; leave it out"}
# More runs than anybody waits for; above it a mistyped number would only fill the memory.
MOST_RUNS = 100_000


def load_suite(path: Path) -> dict[str, Any]:
    """A suite with every key of the right shape: recipe, pairs, methods and seeds.

    Raises:
        AttarError: the file is missing or is no YAML, or a key is unknown, missing or of another shape.
    """
    suite = load_yaml(path, "suite")
    for key in suite:
        if key not in KEYS:
            raise unknown_key(str(key), KEYS)
    if not suite.get("methods") or not suite.get("pairs"):
        raise AttarError(f"suite {str(path)!r} needs `methods` and `pairs`; `attar bench --help` shows one")
    suite = {**suite, "recipe": suite.get("recipe") or {}, "seeds": 1 if suite.get("seeds") is None else suite["seeds"]}
    for key, what, holds in (
        ("recipe", "a section of keys", isinstance(suite["recipe"], dict)),
        ("pairs", "a list of sections with a teacher and a student", _all(suite["pairs"], dict)),
        ("methods", "a list of names, or of sections with a name", _all(suite["methods"], str | dict)),
        ("methods", "a name in every section", _all_named(suite["methods"])),
        ("seeds", "a whole number from 1", type(suite["seeds"]) is int and suite["seeds"] > 0),
    ):
        if not holds:
            raise AttarError(f"{key} of suite {str(path)!r}: expected {what}; `attar bench --help` shows one")
    runs = suite["seeds"] * len(suite["pairs"]) * len(suite["methods"])
    if runs > MOST_RUNS:
        raise AttarError(f"suite {str(path)!r} asks for more than {MOST_RUNS} runs; give fewer seeds")
    return suite


def unknown_key(key: str, known: Iterable[str]) -> AttarError:
    """The error for a key that suites do not have, or no longer have."""
    if key in REMOVED:
        return AttarError(f"unknown key of a suite: {key!r}; {REMOVED[key]}")
    return unknown("key of a suite:", key, known)


def parsed(overrides: list[str]) -> list[dict[str, Any]]:
    """Overrides of a suite's recipe, each a tree, but for the folder it writes to."""
    return [parse(override) for override in overrides if not override.startswith("out=")]


def _all(given: Any, kind: Any) -> bool:
    return isinstance(given, list) and all(isinstance(one, kind) for one in given)


def _all_named(methods: Any) -> bool:
    return _all(methods, str | dict) and all(isinstance(m, str) or isinstance(m.get("name"), str) for m in methods)
