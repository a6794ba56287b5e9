"""Heavy sweeps over all methods: one method of each kind is always tested, the others are `slow`."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import pytest

from attar.methods import list_methods, method_info

# Offline on logits, offline on stages, online, semi-online, self. `make test` sweeps these, `make test-all` everything.
ONE_OF_EACH_KIND = ("kd", "fitnet", "dml", "sokd", "uakd")
# Methods that need a package which the oldest supported environment goes without.
NEEDS = {"okd": "peft"}


def installed_methods() -> list[str]:
    """All methods whose packages are installed and which run on ResNets: all but those that need a transformer."""
    running = [name for name in list_methods() if "layers" not in method_info(name).needs]
    return [name for name in running if name not in NEEDS or find_spec(NEEDS[name])]


def sweep(names: Iterable[str] | None = None) -> list[Any]:
    """The parameters of a heavy test over the methods.

    Args:
        names: of the methods, where not all of them are swept.
    """
    return [
        name if name in ONE_OF_EACH_KIND else pytest.param(name, marks=pytest.mark.slow)
        for name in (installed_methods() if names is None else names)
    ]


def first_of(cases: Iterable[Any]) -> list[Any]:
    """The parameters of a test whose further cases are each a second check of the first: `make test-all` runs those."""
    first, *others = [one if isinstance(one, tuple) else (one,) for one in cases]
    return [pytest.param(*first), *(pytest.param(*one, marks=pytest.mark.slow) for one in others)]


def one_of_each_kind_first() -> list[str]:
    """All methods, for settings that are dealt out in order: the short sweep then has each of the first five."""
    return sorted(installed_methods(), key=lambda name: (name not in ONE_OF_EACH_KIND, name))
