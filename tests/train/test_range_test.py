"""The range test makes the updates of the training that follows."""

import itertools
from types import SimpleNamespace

import torch

from attar.train.loop import Fit, Places
from attar.train.range_test import Rising, find_rate

KEYS = {
    "schedule": "constant",
    "warmup": 0,
    "accumulate": 2,
    "clip_norm": 0.1,
    "layer_decay": 0.5,
    "label_smoothing": 0.2,
}


def test_its_updates_are_those_of_the_training(tiny):
    one, other = (tiny("kd", epochs=1, **KEYS) for _ in range(2))
    run = Fit(one.method, one.loader, None, one.recipe, one.runtime, Places(one.folder), SimpleNamespace(log=print))
    run.start_epoch(0)
    for batch in itertools.islice(one.loader.epoch(0), 4):
        run.step(batch)
    test = Rising(other.method, other.loader, other.recipe, other.runtime, Places(other.folder))
    batches = other.loader.epoch(0)
    losses = [test.update_at(other.recipe.optim.lr, batches) for _ in range(2)]
    assert all(loss > 0 for loss in losses)
    expected = one.method.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in other.method.state_dict().items())


def test_the_method_begins_as_if_nothing_had_happened(tiny):
    one = tiny("kd", epochs=1, **KEYS)
    before = {name: value.clone() for name, value in one.method.state_dict().items()}
    assert find_rate(one.method, one.loader, one.recipe, one.runtime, Places(one.folder)) > 0
    assert all(torch.equal(value, before[name]) for name, value in one.method.state_dict().items())
