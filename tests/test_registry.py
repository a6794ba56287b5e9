"""The table of named things, nearest names, and option types."""

import re
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from attar.errors import AttarError, unknown
from attar.registry import Registry, check_types


@dataclass(frozen=True)
class Thing:
    name: str


def test_a_taken_name_is_refused():
    registry = Registry[Thing]("thing")
    registry.add(Thing("a"))
    with pytest.raises(AttarError, match="thing 'a' is registered already"):
        registry.add(Thing("a"))


def test_names_match_a_pattern_in_order():
    registry = Registry[Thing]("thing")
    for name in ("dkd", "at", "kd"):
        registry.add(Thing(name))
    assert registry.names("*kd") == ["dkd", "kd"]
    assert "at" in registry
    assert "a" not in registry


def test_what_a_recipe_gave_is_found_and_stands_in_no_listing():
    registry = Registry[Thing]("thing", wrap=lambda name, thing: Thing(name))
    registry.add(Thing("kd"))
    registry.put("given:Net", object())
    assert registry["given:Net"] == Thing("given:Net")
    assert "given:Net" in registry
    assert registry.names() == list(registry) == ["kd"]


def test_a_name_like_no_other_lists_the_known_ones():
    assert str(unknown("method", "KD", ["kd", "at"])) == "unknown method 'KD'; did you mean 'kd'?"
    many = str(unknown("method", "????", [f"m{n:02d}" for n in range(50)]))
    assert many.endswith("m38, m39 and 10 more (attar list)")
    assert str(unknown("method", "zzzz", ["kd", "at"])) == "unknown method 'zzzz'; known: at, kd"


class Options:
    def __init__(self, number: float, count: int, flag: bool, peers: int | Sequence[str], any: object) -> None: ...


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("number", 1, "1"),
        ("number", 0.5, True),
        ("count", 3, 3.5),
        ("flag", False, 0),
        ("peers", ["resnet8"], "resnet8"),
        ("peers", 2, [2]),
    ],
)
def test_types_of_options(name, good, bad):
    check_types("thing", Options, {name: good, "any": object()})
    with pytest.raises(AttarError, match=f"^thing: {name} must be .*got {re.escape(repr(bad))}"):
        check_types("thing", Options, {name: bad})


def test_built_in_records_come_with_the_first_look_up(tmp_path, monkeypatch):
    (tmp_path / "builtin_things.py").write_text("import test_things\ntest_things.TABLE.add(test_things.Thing('a'))\n")
    monkeypatch.syspath_prepend(tmp_path)
    table = Registry[Thing]("thing", builtins="builtin_things")
    monkeypatch.setitem(sys.modules, "test_things", types.SimpleNamespace(TABLE=table, Thing=Thing))
    assert "builtin_things" not in sys.modules
    with pytest.raises(AttarError, match="thing 'a' is registered already"):
        table.add(Thing("a"))
    assert list(table) == ["a"]
