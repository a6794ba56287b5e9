"""Optimisers and learning-rate schedules that a recipe names."""

import pytest
import torch

from attar import choices
from attar.errors import AttarError
from attar.recipe import OptimRecipe, read_recipe
from attar.train.optim import optimiser
from attar.train.schedules import learning_rate


@pytest.fixture(autouse=True)
def tables_as_before(monkeypatch):
    for table in (choices.OPTIMISERS, choices.SCHEDULES):
        table.names()
        monkeypatch.setattr(table, "_entered", dict(table._entered))


def test_an_optimiser_of_ones_own_is_named_by_a_recipe():
    with pytest.raises(AttarError, match=r"unknown value of optim\.name: 'adagrad'"):
        read_recipe(overrides=["optim.name=adagrad"])

    @choices.register_optimiser("adagrad", title="Adagrad")
    def adagrad(parameters, optim):
        return torch.optim.Adagrad(parameters, lr=optim.lr)

    recipe = read_recipe(overrides=["optim.name=adagrad", "optim.lr=0.5"])
    made = optimiser([torch.nn.Parameter(torch.zeros(2))], recipe.optim)
    assert isinstance(made, torch.optim.Adagrad)
    assert made.param_groups[0]["lr"] == 0.5


def test_a_schedule_of_ones_own_with_and_without_warm_up():
    choices.register_schedule("half", title="a half")(lambda done, optim: 0.5)
    choices.register_schedule("half-now", title="a half", warmup=False)(lambda done, optim: 0.5)
    half, now = (read_recipe(overrides=[f"optim.schedule={name}", "optim.warmup=1"]) for name in ("half", "half-now"))
    assert [learning_rate(half.optim, step, 2, 2) for step in range(4)] == [0.1, 0.2, 0.1, 0.1]
    assert [learning_rate(now.optim, step, 2, 2) for step in range(4)] == [0.1] * 4


def test_a_taken_name_is_refused():
    with pytest.raises(AttarError, match="optimiser 'sgd' is registered already"):
        choices.register_optimiser("sgd", title="mine")(lambda parameters, optim: None)


def test_the_built_in_ones():
    assert {"adamw", "sgd"} <= set(choices.list_optimisers())
    assert {"constant", "cosine", "multistep", "onecycle"} <= set(choices.list_schedules())
    weight = [torch.nn.Parameter(torch.zeros(2))]
    sgd = optimiser(weight, OptimRecipe(momentum=0.0)).param_groups[0]
    assert (sgd["nesterov"], sgd["weight_decay"], sgd["fused"]) == (False, 5e-4, True)
    assert isinstance(optimiser(weight, OptimRecipe(name="adamw")), torch.optim.AdamW)
