"""Budgets as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import AttarError
from attar.profiling.budget import UNITS, Budget, quantity, read_budget


@given(
    st.sampled_from([(kind, unit, scale) for kind, (units, _) in UNITS.items() for unit, scale in units.items()]),
    st.floats(1e-3, 1e6),
    st.sampled_from(["", " "]),
    st.sampled_from([str.upper, str.lower, str.title]),
)
def test_every_unit_in_any_case(entry, number, gap, cased):
    kind, unit, scale = entry
    assert quantity(kind, f"{number!r}{gap}{cased(unit)}") == pytest.approx(number * scale, rel=1e-12)


@given(st.sampled_from(list(UNITS)), st.text(max_size=8))
def test_any_text_is_a_positive_number_or_one_line(kind, text):
    try:
        value = quantity(kind, text)
    except AttarError as error:
        value, text = 1.0, str(error)
        assert_one_line(text)
    assert 0 < value < math.inf


def assert_one_line(text):
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("latency", "5ms", 5),
        ("latency", "0.005s", 5),
        ("latency", "800 us", 0.8),
        ("size", "10MB", 10_000_000),
        ("memory", "10MiB", 10_485_760),
        ("macs", "1.2G", 1_200_000_000),
        ("params", 5e6, 5_000_000),
        ("params", ".5M", 500_000),
    ],
)
def test_examples(kind, text, value):
    assert quantity(kind, text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("latency", "5", "it has no unit; give 5ms or 0.005s"),
        ("latency", "5MB", "the unit 'MB' is unknown; give 5ms"),
        ("size", "10M", "the unit 'M' is unknown; give 10MB or 10MiB"),
        ("size", "0MB", "give more than 0: 10MB"),
        ("macs", "-3M", "give a number and its unit: 300M"),
        ("params", "many", "give a number and its unit: 5M"),
        ("params", "1e999", "give more than 0"),
    ],
)
def test_mistakes(kind, text, message):
    with pytest.raises(AttarError, match=message):
        quantity(kind, text)


def test_what_a_network_misses():
    budget = read_budget(latency="2ms", size="1MB", macs=None)
    assert budget.given == {"latency": 2.0, "size": 1e6}
    assert budget.misses({"latency": 2.0, "size": 3e6, "params": 1e9}) == {"size": 3.0}
    assert Budget().misses({"latency": 1e9}) == {}
