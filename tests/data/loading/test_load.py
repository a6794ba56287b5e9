import pytest
import torch

from attar.data import Augment, Splits, dataset_info, list_datasets, load_data, wrap
from attar.errors import AttarError


def test_the_known_data_sets():
    assert list_datasets() == [
        "cifar10",
        "cifar100",
        "digit_mosaics",
        "digits",
        "folder",
        "hf",
        "label_table",
        "manifest",
        "webdataset",
    ]
    assert dataset_info("digits").options == ("test_fraction",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "cifar00"}, "did you mean 'cifar"),
        ({"data": "digits", "test_fractoin": 0.1}, "did you mean 'test_fraction'"),
        ({"data": "digits", "trainsize": 100}, "did you mean 'train_size'"),
        ({"data": "digits", "augment": {"flipp": True}}, "did you mean 'flip'"),
        ({"data": "digits", "val_fraction": 1.0}, r"in \[0, 1\)"),
        ({"data": "digits", "image_size": 0}, "at least 1 pixel"),
        ({"data": "digits", "mean": (0.1, 0.2)}, "1 channels"),
        ({"data": "digits", "test_fraction": 0.0}, "the test set has no images"),
    ],
)
def test_mistakes_are_answered(arguments, message):
    with pytest.raises(AttarError, match=message):
        load_data(**arguments)


def test_the_validation_set_can_be_left_out():
    assert load_data("digits", val_fraction=0).val is None


def test_few_labels():
    splits = load_data("digits", train_size=100)
    assert len(splits.train) == 100
    assert len(splits.val) == 90
    assert splits.train.labels.bincount().min() >= 9


def test_size_statistics_and_augmentation_are_the_user_s():
    splits = load_data("digits", image_size=16, mean=[0.5], std=[0.5], augment={"flip": True})
    assert splits.image_shape == (1, 16, 16)
    assert splits.test.mean == splits.val.std == (0.5,)
    assert splits.augment == Augment(crop_padding=2, flip=True)


def test_a_map_style_data_set_is_split():
    pairs = [(torch.full((3, 8, 8), i, dtype=torch.uint8), i % 2) for i in range(50)]
    splits = load_data(pairs)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [36, 4, 10]
    assert splits.augment == Augment(crop_padding=1)
    assert load_data(pairs, seed=1).test.fingerprint == splits.test.fingerprint


def test_a_pair_of_data_sets_is_train_and_test():
    train = [(torch.full((3, 8, 8), i, dtype=torch.uint8), i % 3) for i in range(30)]
    test = [(torch.full((3, 8, 8), 200, dtype=torch.uint8), 0)]
    splits = load_data((train, test), val_fraction=0)
    assert len(splits.train) == 30
    assert len(splits.test) == 1
    assert splits.test.classes == ("0", "1", "2")
    assert splits.test.mean == splits.train.mean


def test_a_pair_that_differs_in_channels_is_refused():
    with pytest.raises(AttarError, match="test images have 1 channels, training images 3"):
        load_data(([(torch.zeros(3, 8, 8), 0)], [(torch.zeros(8, 8), 0)]))


def test_splits_pass_through(make):
    given = Splits(make(), make(seed=1), augment=Augment(cutout=2))
    splits = load_data(given)
    assert splits.augment == Augment(cutout=2)
    assert [len(splits.train), len(splits.val)] == [36, 4]
    assert splits.test.fingerprint == given.test.fingerprint


def test_options_of_an_object_are_refused(make):
    with pytest.raises(AttarError, match="option of data given as an object"):
        load_data(make(), test_fraction=0.5)


class Named(list):
    """Pairs with names of their classes."""

    def __init__(self, labels, classes=None):
        super().__init__((torch.full((3, 8, 8), float(label == "dog")), place) for place, label in labels)
        if classes is not None:
            self.classes = classes


def test_classes_of_two_sets_are_matched_by_name():
    train = Named([(0, "cat"), (1, "dog")] * 3, ["cat", "dog"])
    test = Named([(0, "dog"), (1, "cat"), (0, "dog")], ["dog", "cat"])
    found = load_data((train, test), val_fraction=0)
    assert found.test.classes == ("cat", "dog")
    assert found.test.labels.tolist() == [1, 0, 1]
    assert load_data((train, wrap(test)), val_fraction=0).test.labels.tolist() == [1, 0, 1]
    # A test set may lack some.
    few = load_data((train, Named([(0, "dog")] * 2, ["dog"])), val_fraction=0).test
    assert (few.classes, few.labels.tolist()) == (("cat", "dog"), [1, 1])
    # Numbers stand for whatever the other set calls its classes.
    assert load_data((train, Named([(1, "dog"), (0, "cat")])), val_fraction=0).test.labels.tolist() == [1, 0]
    nameless = load_data((Named([(0, "cat"), (1, "dog")] * 3), test), val_fraction=0).test
    assert (nameless.classes, nameless.labels.tolist()) == (("0", "1"), [0, 1, 0])
    message = r"test images have the class 'emu', which the training images lack: they have cat, dog; give both"
    with pytest.raises(AttarError, match=message):
        load_data((train, Named([(0, "dog")], ["emu"])), val_fraction=0)
