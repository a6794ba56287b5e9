import pytest
import torch

from attar.batch import Address
from attar.data import cutmix, draw_mixing, mixup
from attar.errors import AttarError
from attar.losses import cross_entropy

IMAGES = torch.randn(6, 3, 10, 12, generator=torch.Generator().manual_seed(0))
PARTNERS = IMAGES.flip(0)


def test_mixup_is_the_papers_formula():
    shares = torch.tensor([0.0, 0.1, 0.5, 0.7, 0.9, 1.0])
    weight = shares[:, None, None, None]
    torch.testing.assert_close(mixup(IMAGES, PARTNERS, shares), weight * IMAGES + (1 - weight) * PARTNERS)
    assert torch.equal(mixup(IMAGES, PARTNERS, shares)[5], IMAGES[5])
    assert torch.equal(mixup(IMAGES, PARTNERS, shares)[0], PARTNERS[0])


def reference_box(height, width, share, row, column):
    """rand_bbox of the authors' code, and the share that is left."""
    import numpy as np

    cut = np.sqrt(1.0 - share)
    tall, wide = int(height * cut), int(width * cut)
    top, bottom = np.clip(row - tall // 2, 0, height), np.clip(row + tall // 2, 0, height)
    left, right = np.clip(column - wide // 2, 0, width), np.clip(column + wide // 2, 0, width)
    return top, bottom, left, right, 1 - (bottom - top) * (right - left) / (height * width)


def test_cutmix_is_the_authors_box():
    shares = torch.tensor([0.0, 0.2, 0.5, 0.7, 0.9, 1.0])
    centres = torch.tensor([[5, 6], [0, 0], [9, 11], [3, 7], [5, 5], [2, 2]])
    mixed, kept = cutmix(IMAGES, PARTNERS, shares, centres)
    for i in range(6):
        top, bottom, left, right, share = reference_box(10, 12, shares[i].item(), *centres[i].tolist())
        expected = IMAGES[i].clone()
        expected[:, top:bottom, left:right] = PARTNERS[i, :, top:bottom, left:right]
        assert torch.equal(mixed[i], expected)
        assert kept[i].item() == pytest.approx(share, abs=1e-6)


def test_shares_are_beta_and_partners_a_permutation():
    partners, shares = draw_mixing(20000, 0.4, Address(seed=1))
    assert torch.equal(partners.sort().values, torch.arange(20000))
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)).
    assert abs(shares.mean().item() - 0.5) < 0.01
    assert shares.var().item() == pytest.approx(1 / (4 * 1.8), rel=0.03)
    assert 0 <= shares.min() <= shares.max() <= 1


def test_choices_follow_from_the_address_alone():
    before = torch.get_rng_state()
    first, again, other = (draw_mixing(50, 1.0, Address(seed=1, epoch=epoch)) for epoch in (2, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_the_labels_loss_is_that_of_mixed_labels():
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    own, theirs = torch.arange(6) % 5, torch.arange(6).flip(0) % 5
    share = torch.tensor(0.3)
    mixed = share * torch.eye(5)[own] + (1 - share) * torch.eye(5)[theirs]
    two = share * cross_entropy(logits, own) + (1 - share) * cross_entropy(logits, theirs)
    torch.testing.assert_close(two, cross_entropy(logits, mixed))


def test_what_does_not_fit_is_refused():
    with pytest.raises(AttarError, match="a partner and a share for each image"):
        mixup(IMAGES, PARTNERS[:5], torch.ones(6))
    with pytest.raises(AttarError, match="a partner and a share for each image"):
        cutmix(IMAGES, PARTNERS, torch.ones(1), torch.zeros(6, 2))
    with pytest.raises(AttarError, match="alpha must be above 0"):
        draw_mixing(4, 0.0, Address())
