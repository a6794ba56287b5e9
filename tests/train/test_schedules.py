import pytest

from attar.recipe import OptimRecipe
from attar.train.schedules import learning_rate


def rates(**settings):
    recipe = OptimRecipe(lr=1.0, **settings)
    return [learning_rate(recipe, step, steps_per_epoch=4, epochs=3) for step in range(12)]


def test_linear_rises_in_the_warmup_and_falls_from_its_end():
    expected = [0.25, 0.5, 0.75, 1.0, *(1 - step / 8 for step in range(8))]
    assert rates(schedule="linear", warmup=1.0) == pytest.approx(expected)


def test_rex_stays_above_linear_until_both_end_at_zero():
    rex, linear = rates(schedule="rex"), rates(schedule="linear")
    assert rex[0] == linear[0] == 1.0
    assert all(one > other for one, other in zip(rex[1:], linear[1:], strict=True))
    assert rex[6] == pytest.approx(0.5 / 0.75)


def test_cosine_keeps_its_curve_with_a_warmup():
    assert rates(schedule="cosine", warmup=1.0)[4:] == rates(schedule="cosine")[4:]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "multistep"])
@pytest.mark.parametrize(("warmup", "steps"), [(0.01, 10), (0.05, 15), (0.1 * 3, 20), (0.5, 1)])
def test_a_warm_up_that_ends_within_a_step_stays_below_the_rate(schedule, warmup, steps):
    recipe = OptimRecipe(lr=0.1, schedule=schedule, warmup=warmup)
    found = [learning_rate(recipe, step, steps, 3) for step in range(3 * steps)]
    assert max(found) <= 0.1 + 1e-12
