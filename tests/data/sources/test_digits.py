import numpy as np
import sklearn.datasets
import torch

from attar.data import load_data
from attar.data.sources.digits import FILE


def test_the_embedded_data():
    splits = load_data("digits")
    assert splits.image_shape == (1, 8, 8)
    assert splits.num_classes == 10
    assert len(splits.train) + len(splits.val) + len(splits.test) == 1797
    assert int(splits.train.images.max()) == 255
    assert not splits.augment.flip
    assert splits.augment.crop_padding == 1


def test_they_are_the_published_ones():
    published = sklearn.datasets.load_digits()
    with np.load(FILE) as embedded:
        assert np.array_equal(embedded["images"], published.images)
        assert np.array_equal(embedded["labels"], published.target)


def test_the_test_set_never_depends_on_the_seed():
    one, two = load_data("digits", seed=0), load_data("digits", seed=1)
    assert one.test.fingerprint == two.test.fingerprint
    assert one.val.fingerprint != two.val.fingerprint


def test_the_statistics_are_the_data_s():
    pixels = load_data("digits", val_fraction=0).train.images.float() / 255
    torch.testing.assert_close(pixels.mean(), torch.tensor(0.305), atol=0.005, rtol=0)
    torch.testing.assert_close(pixels.std(), torch.tensor(0.376), atol=0.005, rtol=0)


def test_the_test_fraction_is_an_option():
    assert len(load_data("digits", test_fraction=0.2).test) == 359
