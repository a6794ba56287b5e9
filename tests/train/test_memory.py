"""A training holds no more at its end than near its beginning."""

import gc
import weakref

import pytest
import torch

from attar.models import Frozen
from attar.teachers.cache import TeacherCache
from attar.teachers.cached_loader import CachedLoader
from attar.teachers.logit_codec import Dense

EPOCHS = 10


def tensors():
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]


@pytest.fixture
def alive():
    """How many tensors were made since the test began, and how many bytes they have together.

    Older ones are other tests', and may die meanwhile.
    """
    older = {id(tensor): weakref.ref(tensor) for tensor in tensors()}

    def count():
        ours = [tensor for tensor in tensors() if id(tensor) not in older or older[id(tensor)]() is not tensor]
        return len(ours), sum(tensor.untyped_storage().nbytes() for tensor in ours)

    return count


def test_tensors_do_not_grow_over_forty_steps(tiny, monkeypatch, alive):
    run, seen = tiny("kd", epochs=EPOCHS, ema=0.9), {}
    loader_of = run.new_loader

    def watching():
        loader = loader_of()
        batches = loader.epoch

        def epoch(number, start_step=0):
            if number in (EPOCHS // 5, EPOCHS - 1):
                seen[number] = alive()
            yield from batches(number, start_step)

        monkeypatch.setattr(loader, "epoch", epoch)
        return loader

    monkeypatch.setattr(run, "new_loader", watching)
    run.fit()
    assert seen[EPOCHS - 1] == seen[EPOCHS // 5]


@pytest.mark.slow
def test_a_cache_holds_no_answer_longer_than_its_epoch(tiny, tmp_path, alive):
    run = tiny("kd")
    frozen = Frozen(run.net("resnet14"))
    cache = TeacherCache(tmp_path / "cache", {}, len(run.splits.train), Dense(10))
    loader, counts = CachedLoader(run.loader, [(frozen, cache)], run.runtime, pytest.fail), []
    for epoch in (0, 1, 0, 1):  # written, then read
        for _ in loader.epoch(epoch):
            pass
        counts.append(alive())
    assert len(list(cache.folder.glob("*.bin"))) == 2
    assert counts == [counts[0]] * 4
