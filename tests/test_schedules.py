"""Weights that move with the epoch."""

import math

import pytest

from attar.errors import AttarError
from attar.schedules import ExponentialDecay, ExponentialRampUp, LinearWarmup, value


@pytest.mark.parametrize("ramp", [LinearWarmup(0, 3.0), ExponentialRampUp(0, 3.0)])
def test_no_warmup_is_the_full_weight_at_once(ramp):
    assert [ramp(epoch, 10) for epoch in (0, 5)] == [3.0, 3.0]


def test_linear_warmup_is_full_after_its_epochs():
    assert [LinearWarmup(4, 2.0)(epoch, 9) for epoch in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_exponential_ramp_starts_at_exp_minus_5_and_stays_at_1():
    ramp = ExponentialRampUp(80)
    assert ramp(0, 300) == pytest.approx(math.exp(-5))
    assert ramp(80, 300) == ramp(299, 300) == 1.0


def test_a_number_is_its_own_value():
    assert value(3, 100, 200) == 3.0


@pytest.mark.parametrize("weight", [ExponentialDecay(1.0, 1e200), float("inf"), lambda epoch, epochs: math.nan])
def test_a_weight_that_is_not_finite_is_refused_by_its_epoch(weight):
    with pytest.raises(AttarError, match=r"in epoch 3; give one that is finite in every epoch"):
        value(weight, 2, 10)
