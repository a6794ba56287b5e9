"""Addressed randomness."""

import itertools

import torch

from attar.batch import Address, Batch


def test_every_part_of_the_address_changes_the_numbers():
    addresses = [Address(*parts) for parts in itertools.product((0, 1), repeat=3)]
    draws = {
        float(torch.rand((), generator=address.generator(purpose))) for address in addresses for purpose in ("a", "b")
    }
    assert len(draws) == 16


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    torch.rand(3, generator=Batch(torch.zeros(1, 1, 1, 1), torch.zeros(1).long()).rng("mix"))
    assert torch.equal(before, torch.get_rng_state())
