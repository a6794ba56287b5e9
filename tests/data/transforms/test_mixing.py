import pytest
import torch

from attar.batch import Address
from attar.data import Mixing, cutmix, mixup
from attar.data.transforms.mixing import mixed_labels
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


@pytest.mark.parametrize(("key", "alpha"), [("mixup", 0.4), ("cutmix", 1.0)])
def test_shares_are_beta(key, alpha):
    mixes = Mixing(**{key: alpha}).draw(20000, 10, 12, Address(seed=1))
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)).
    assert abs(mixes.share.mean().item() - 0.5) < 0.01
    assert mixes.share.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
    assert 0 <= mixes.share.min() <= mixes.share.max() <= 1
    assert mixes.cut.unique().tolist() == [key == "cutmix"]


def test_with_both_each_image_draws_which_and_its_own_alpha():
    mixes = Mixing(mixup=0.2, cutmix=4.0).draw(20000, 10, 12, Address(seed=1))
    assert abs(mixes.cut.float().mean().item() - 0.5) < 0.02
    for cut, alpha in ((True, 4.0), (False, 0.2)):
        assert mixes.share[mixes.cut == cut].var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    for side, length in enumerate((10, 12)):
        assert mixes.centre[:, side].unique().tolist() == list(range(length))


def test_tiny_alphas_leave_images_whole():
    shares = Mixing(mixup=1e-8).draw(100, 8, 8, Address()).share
    assert shares.isfinite().all()
    assert ((shares == 0) | (shares == 0.5) | (shares == 1)).all()


def test_choices_follow_from_the_address_alone():
    before = torch.get_rng_state()
    draw = Mixing(1.0, 1.0).draw
    first, again, other = (draw(50, 8, 8, Address(seed=1, epoch=epoch)) for epoch in (2, 2, 3))
    elsewhere = draw(50, 8, 8, Address(seed=1, epoch=2), "unlabelled/")
    assert torch.equal(torch.get_rng_state(), before)
    for part in ("share", "cut", "centre"):
        assert torch.equal(getattr(first, part), getattr(again, part))
        assert not torch.equal(getattr(first, part), getattr(other, part))
        assert not torch.equal(getattr(first, part), getattr(elsewhere, part))


def test_each_image_gets_the_one_it_drew():
    mixing = Mixing(1.0, 1.0)
    mixes = mixing.draw(6, 10, 12, Address(seed=4))
    assert mixes.cut.unique().tolist() == [False, True]
    mixed, shares = mixing(IMAGES, PARTNERS, mixes)
    pasted, kept = cutmix(IMAGES, PARTNERS, mixes.share, mixes.centre)
    blended = mixup(IMAGES, PARTNERS, mixes.share)
    for i in range(6):
        assert torch.equal(mixed[i], pasted[i] if mixes.cut[i] else blended[i])
        assert shares[i] == (kept[i] if mixes.cut[i] else mixes.share[i])


def test_the_labels_loss_is_that_of_mixed_labels():
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    own, theirs = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([0, 4, 3, 2, 1, 2])
    share = torch.linspace(0, 1, 6)
    two = share * cross_entropy(logits, own, reduction="none")
    two = two + (1 - share) * cross_entropy(logits, theirs, reduction="none")
    mixed = mixed_labels(own, theirs, share, classes=5)
    torch.testing.assert_close(two, cross_entropy(logits, mixed, reduction="none"))


def test_what_does_not_fit_is_refused():
    with pytest.raises(AttarError, match="a partner and a share for each image"):
        mixup(IMAGES, PARTNERS[:5], torch.ones(6))
    with pytest.raises(AttarError, match="a partner and a share for each image"):
        cutmix(IMAGES, PARTNERS, torch.ones(1), torch.zeros(6, 2))
    for alpha in (-0.1, float("inf"), float("nan"), "1"):
        with pytest.raises(AttarError, match=r"cutmix is the alpha of Beta\(alpha, alpha\), 0 or above, got"):
            Mixing(cutmix=alpha)
