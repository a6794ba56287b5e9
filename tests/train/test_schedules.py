import io

import pytest
from rich.console import Console

from attar.errors import AttarError
from attar.experiments import launch
from attar.recipe import OptimRecipe, read_recipe
from attar.train.schedules import check_warmup, learning_rate


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


def test_a_warm_up_longer_than_the_training_is_refused(tmp_path):
    message = r"optim\.warmup=5 epochs are longer than the training, epochs=2"
    with pytest.raises(AttarError, match=message):
        check_warmup(OptimRecipe(schedule="cosine", warmup=5), 2)
    check_warmup(OptimRecipe(schedule="onecycle", warmup=5), 2)
    check_warmup(OptimRecipe(schedule="cosine", warmup=2), 2)
    keys = {"student": "resnet8", "method": "supervised", "alone": "skip", "out": str(tmp_path / "run")}
    recipe = read_recipe(**keys, epochs=2, optim={"schedule": "cosine", "warmup": 5})
    with pytest.raises(AttarError, match=message):
        launch.start(recipe, Console(file=io.StringIO()))
    assert not (tmp_path / "run").exists()
