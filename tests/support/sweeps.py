"""Heavy sweeps over all methods: one method of each kind is always tested, the others are `slow`."""

from collections.abc import Iterable
from typing import Any

import pytest

from attar.methods import list_methods

# Offline on logits, offline on stages, online, semi-online, self. `make test` sweeps these, `make test-all` everything.
ONE_OF_EACH_KIND = ("kd", "fitnet", "dml", "sokd", "uakd")


def sweep(names: Iterable[str] | None = None) -> list[Any]:
    """The parameters of a heavy test over the methods.

    Args:
        names: of the methods, where not all of them are swept.
    """
    return [
        name if name in ONE_OF_EACH_KIND else pytest.param(name, marks=pytest.mark.slow)
        for name in (list_methods() if names is None else names)
    ]


def one_of_each_kind_first() -> list[str]:
    """All methods, for settings that are dealt out in order: the short sweep then has each of the first five."""
    return sorted(list_methods(), key=lambda name: (name not in ONE_OF_EACH_KIND, name))
