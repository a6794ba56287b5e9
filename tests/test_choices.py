"""Optimisers and learning-rate schedules that a recipe names."""

import pytest
import torch

from attar import choices
from attar.errors import AttarError
from attar.recipe import OptimRecipe, layered, read_recipe, to_yaml
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


def test_a_class_gets_the_groups_and_the_momentum_that_a_name_gets():
    weights = list(torch.nn.Linear(2, 3).parameters())
    plain = choices.of_class(torch.optim.SGD, weights, OptimRecipe(momentum=0.0))
    assert not plain.param_groups[0]["nesterov"]
    parted = choices.of_class(torch.optim.AdamW, weights, OptimRecipe(name="adamw", decay_vectors=False))
    assert [group["weight_decay"] for group in parted.param_groups] == [5e-4, 0.0]
    assert len(choices.of_class(torch.optim.Rprop, weights, OptimRecipe(decay_vectors=False)).param_groups) == 1


def test_what_a_class_refuses_is_one_line():
    class Fussy(torch.optim.SGD):
        def __init__(self, params, lr):
            raise ValueError("lr must be a power of two")

    with pytest.raises(AttarError, match=r"optim.name=Fussy does not take lr=0.3 \(lr must be a power of two\)"):
        choices.of_class(Fussy, [torch.nn.Parameter(torch.zeros(2))], OptimRecipe(lr=0.3))


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


def test_defaults_follow_the_optimiser_and_what_is_given_stays():
    def rates(*overrides, file=None, **values):
        optim = read_recipe(file, overrides, **values).optim
        return optim.lr, optim.weight_decay

    assert rates() == (0.2, 5e-4)
    assert rates("optim.name=adamw") == (1e-3, 1e-2)
    assert rates("optim.lr=0.02", "optim.name=adamw") == (0.02, 1e-2)
    assert rates("optim.name=adamw", file="digits") == (1e-3, 1e-2)  # its file has lr 0.05, for SGD
    assert rates("optim.lr=0.1", file="digits") == (0.1, 5e-4)
    assert rates(optim={"name": "adamw"}) == (1e-3, 1e-2)
    assert rates("optim.name=adamw", "optim.lr=0.02", optim={"name": "sgd"}) == (0.2, 5e-4)


def test_a_recipe_that_spells_its_defaults_out_reads_back(tmp_path):
    recipe = read_recipe(overrides=["optim.name=adamw", "optim.weight_decay=0.5"])
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    assert read_recipe(tmp_path / "recipe.yaml") == recipe


def test_an_optimiser_of_ones_own_brings_its_defaults_or_asks_for_a_rate():
    choices.register_optimiser("mine", title="mine", lr=3.0, momentum=0.5)(lambda parameters, optim: None)
    choices.register_optimiser("bare", title="bare")(lambda parameters, optim: None)
    optim = read_recipe(overrides=["optim.name=mine"]).optim
    assert (optim.lr, optim.momentum, optim.weight_decay) == (3.0, 0.5, 5e-4)
    with pytest.raises(AttarError, match=r"optimiser 'bare' has no learning rate of its own; give optim\.lr="):
        read_recipe(overrides=["optim.name=bare"])
    assert read_recipe(overrides=["optim.name=bare", "optim.lr=2"]).optim.lr == 2


def test_layers_of_a_suite_leave_behind_what_belongs_to_another_name():
    common = {"optim": {"lr": 0.05, "schedule": "cosine"}, "teacher": {"name": "a", "weights": "a.pth", "epochs": 3}}
    assert layered(common, {"optim": {"name": "adamw"}})["optim"] == {
        "name": "adamw",
        "schedule": "cosine",
        "range_test": False,
    }
    assert layered(common, {"optim": {"name": "sgd"}})["optim"]["lr"] == 0.05
    assert layered(common, {"teacher": "b"})["teacher"] == {"name": "b", "epochs": 3}
    assert layered({"teacher": {"weights": "a.pth"}}, {"teacher": "b"})["teacher"] == {"name": "b", "weights": "a.pth"}
