"""Means, intervals and paired tests, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attar.errors import AttarError
from attar.metrics import paired_gap, summarise

A, B = [72.1, 72.6, 71.9, 72.4], [71.8, 72.5, 71.7, 71.9]


def test_interval_is_scipys() -> None:
    found = summarise(A)
    low, high = stats.t.interval(0.95, len(A) - 1, np.mean(A), stats.sem(A))
    assert found.mean == pytest.approx(np.mean(A))
    assert found.std == pytest.approx(np.std(A, ddof=1))
    assert found.half_width == pytest.approx((high - low) / 2)


def test_level_widens_the_interval() -> None:
    assert summarise(A, level=0.99).half_width > summarise(A).half_width


def test_paired_test_is_scipys() -> None:
    found, expected = paired_gap(A, B), stats.ttest_rel(A, B)
    assert found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert paired_gap(B, A).p == pytest.approx(expected.pvalue)


def test_a_single_run_has_no_interval() -> None:
    found = paired_gap([72.0], [71.5])
    assert (found.mean, found.std, found.half_width, found.p) == (0.5, None, None, None)
    assert str(summarise([72])) == "72.00"


def test_gaps_without_spread() -> None:
    assert paired_gap(A, A).p == 1.0
    assert paired_gap([2.0, 3.0], [1.0, 2.0]).p == 0.0


def test_mistakes_are_refused() -> None:
    with pytest.raises(AttarError, match="no values"):
        summarise([])
    with pytest.raises(AttarError, match="4 values against 3"):
        paired_gap(A, B[:3])
