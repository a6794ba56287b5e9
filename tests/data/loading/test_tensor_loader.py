"""Batches of tensors: reachable by address, divisible among processes."""

import pytest
import torch

from attar.batch import Counts
from attar.data.loading.tensor_loader import TensorLoader
from attar.data.tensor_set import TensorSet
from attar.errors import AttarError


def samples(count=11, named=False, vary=None):
    inputs = torch.arange(float(count * 3)).view(count, 3)
    weight = (torch.arange(count * 2).view(count, 2) % 3).float()
    given = {"x": inputs, "mask": inputs > 4} if named else inputs
    return TensorSet(given, torch.arange(count), "some", 1, weight=weight, vary=vary)


def shaken(inputs, labels, draws):
    return inputs + draws[:, :3], labels


def test_a_resumed_epoch_is_the_undisturbed_one():
    loader = TensorLoader(samples(vary=shaken), 3, seed=5)
    whole = list(loader.epoch(2))
    rest = list(TensorLoader(samples(vary=shaken), 3, seed=5).epoch(2, start_step=2))
    assert [batch.address for batch in rest] == [batch.address for batch in whole[2:]]
    for one, other in zip(rest, whole[2:], strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels)
    assert sorted(torch.cat([batch.labels for batch in whole]).tolist()) == list(range(11))


def test_epochs_and_seeds_differ():
    orders = {
        tuple(torch.cat([b.labels for b in TensorLoader(samples(), 4, seed=seed).epoch(epoch)]).tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_a_sample_is_varied_alike_at_any_batch_size():
    small, large = (
        {
            int(label): row
            for b in TensorLoader(samples(vary=shaken), size).epoch(1)
            for label, row in zip(b.labels, b.inputs, strict=True)
        }
        for size in (2, 7)
    )
    assert all(torch.equal(small[number], large[number]) for number in range(11))


@pytest.mark.parametrize("named", [False, True])
def test_the_slices_of_processes_make_the_batch(named):
    whole = list(TensorLoader(samples(named=named), 4, seed=1).epoch(0))
    parts = [list(TensorLoader(samples(named=named), 4, seed=1, share=(rank, 3)).epoch(0)) for rank in range(3)]
    for step, batch in enumerate(whole):
        own = [one[step] for one in parts]
        assert torch.cat([part.labels for part in own]).tolist() == batch.labels.tolist()
        expected = Counts(len(batch), len(batch), float(batch.weight.sum()), 3)
        assert all(part.counts == expected for part in own)
        assert own[0].whole == len(batch)


def test_slices_of_sequences_are_as_long_as_the_whole_batch_is():
    lengths = torch.tensor([3, 5, 2, 30, 9, 4, 20, 6])
    tokens = (torch.arange(40) < lengths[:, None]).long()
    sentences = TensorSet({"tokens": tokens}, torch.arange(8), "sentences", 2, lengths=lengths)
    whole = list(TensorLoader(sentences, 4, shuffle=False).epoch(0))
    parts = [list(TensorLoader(sentences, 4, shuffle=False, share=(rank, 2)).epoch(0)) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([one[step].inputs["tokens"] for one in parts]), batch.inputs["tokens"])
    assert [batch.inputs["tokens"].shape[1] for batch in whole] == [32, 24]


def test_what_does_not_fit_is_refused():
    with pytest.raises(AttarError, match="batch_size must be 1 to 11"):
        TensorLoader(samples(), 12)
    with pytest.raises(AttarError, match="cannot be shared by 4"):
        TensorLoader(samples(), 4, share=(0, 4))
