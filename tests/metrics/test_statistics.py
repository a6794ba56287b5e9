"""Means, intervals and paired tests, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attar.errors import AttarError
from attar.metrics import holm, paired_gap, ranking, summarise

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


@pytest.mark.parametrize(
    ("values", "mean"), [([np.inf, 1.0], np.inf), ([np.nan, 1.0], np.nan), ([np.inf, -np.inf], np.nan)]
)
def test_a_value_that_is_no_number_leaves_no_interval_and_no_test(values: list[float], mean: float) -> None:
    found = summarise(values)
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert (found.std, found.half_width, found.count) == (None, None, 2)
    assert paired_gap(values, [1.0, 1.0]).p is None


@pytest.mark.parametrize(
    ("a", "b"), [(A, A), ([2.0, 3.0], [1.0, 2.0]), ([94 / 8.98, 97 / 8.98], [93 / 8.98, 96 / 8.98])]
)
def test_equal_differences_are_not_tested(a: list[float], b: list[float]) -> None:
    """One image more in each of two seeds is chance in one case of ten, not p = 0."""
    gap = paired_gap(a, b)
    assert gap.mean == pytest.approx(a[0] - b[0])
    assert (gap.std, gap.half_width, gap.p) == (0.0, None, None)
    assert gap.untested == f"the same in all {len(a)} seeds, so no interval"


def test_mistakes_are_refused() -> None:
    with pytest.raises(AttarError, match="no values"):
        summarise([])
    with pytest.raises(AttarError, match="4 values against 3"):
        paired_gap(A, B[:3])


def holms(values: list[float]) -> list[float]:
    """Holm's correction by its definition: each level at which the step-down procedure rejects."""
    levels = np.linspace(0, 1, 100_001)[1:]
    found = [1.0] * len(values)
    for level in levels[::-1]:
        for place, number in enumerate(sorted(range(len(values)), key=values.__getitem__)):
            if values[number] > level / (len(values) - place):
                break
            found[number] = level
    return found


@pytest.mark.parametrize("values", [[0.04, 0.01, 0.03], [0.2, 0.2, 0.001, 0.9], [0.012], [0.6, 0.7]])
def test_holm_is_the_step_down_procedure(values: list[float]) -> None:
    """The corrected value is the smallest level at which the comparison is rejected."""
    assert holm(values) == pytest.approx(holms(values), abs=2e-5)
    assert holm([]) == []


# Demsar (2006), table 6: AUC of C4.5 and its variants on 14 data sets.
DEMSAR = """.763 .768 .771 .798  .599 .591 .590 .569  .954 .971 .968 .967  .628 .661 .654 .657  .882 .888 .886 .898
.936 .931 .916 .931  .661 .668 .609 .685  .583 .583 .563 .625  .775 .838 .866 .875  1.0 1.0 1.0 1.0
.940 .962 .965 .962  .619 .666 .614 .669  .972 .981 .9751 .975  .957 .978 .946 .970"""


def test_ranks_are_those_of_demsars_example() -> None:
    scores = np.array(DEMSAR.split(), float).reshape(14, 4)
    found = ranking(scores.tolist())
    assert np.round(found.ranks, 3).tolist() == [3.143, 2.0, 2.893, 1.964]
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    assert found.difference == pytest.approx(1.25, abs=0.005)  # the paper's, for its four methods
    assert ranking((1 - scores).tolist(), higher=False).ranks == found.ranks


@pytest.mark.parametrize(("count", "constant"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_differences_have_the_constants_of_demsars_table(count: int, constant: float) -> None:
    scores = np.random.default_rng(0).random((6, count)).tolist()
    assert ranking(scores).difference == pytest.approx(constant * (count * (count + 1) / 36) ** 0.5, abs=2e-3)


def test_ranks_of_two_methods_or_of_ties_have_no_test() -> None:
    assert ranking([[1.0, 2.0], [1.0, 3.0]]).p is None
    assert ranking([[1.0] * 3] * 2).ranks == (2.0, 2.0, 2.0)
    assert ranking([[1.0] * 3] * 2).p is None
    for scores in ([], [[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 2.0], [1.0]]):
        with pytest.raises(AttarError, match="two or more"):
            ranking(scores)
