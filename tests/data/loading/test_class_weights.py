import pytest
import torch

from attar.data import load_data
from attar.data.loading.class_weights import class_weights
from attar.errors import AttarError


def test_balanced_classes_count_alike(make):
    images = make(count=12, classes=3).subset(torch.tensor([0, 3, 6, 1, 4, 2]))
    weights = torch.tensor(class_weights("balanced", images))
    counts = images.labels.bincount()
    torch.testing.assert_close(weights * counts, torch.full((3,), 2.0))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ([1, 2, 0.5, 1], (1, 2, 0.5, 1)),
        ({"class2": 3}, (1, 1, 3, 1)),
    ],
)
def test_weights_as_numbers(images, given, expected):
    assert class_weights(given, images) == expected


def test_classes_whose_names_are_numbers():
    assert load_data("digits", class_weights={3: 2.5}).train.class_weights[2:5] == (1.0, 2.5, 1.0)


def test_weights_are_of_the_images_that_are_trained_on():
    splits = load_data("digits", class_weights="balanced", train_size=100)
    counts = splits.train.labels.bincount()
    torch.testing.assert_close(torch.tensor(splits.train.class_weights), 100 / (10 * counts))
    assert splits.test.class_weights is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("balance", "did you mean 'balanced'"),
        ([1, 2], "one number for each of 4 classes, got 2 numbers"),
        (3, "one number for each of 4 classes, got 3"),
        ({"class9": 2}, "unknown class in data.class_weights: 'class9'"),
        ({"class1": 0}, "the weight of class 'class1' must be above 0, got 0"),
        ([1, 1, "a", 1], "of class 'class2' must be above 0, got 'a'"),
        ([1, 1, float("nan"), 1], "must be above 0, got nan"),
        ([1, 1, True, 1], "must be above 0, got True"),
    ],
)
def test_mistakes_are_named(images, given, message):
    with pytest.raises(AttarError, match=message) as caught:
        class_weights(given, images)
    assert "\n" not in str(caught.value)


def test_a_class_without_images_cannot_be_balanced(images):
    with pytest.raises(AttarError, match="class 'class3' has no training image"):
        class_weights("balanced", images.subset(torch.tensor([0, 1, 2])))
