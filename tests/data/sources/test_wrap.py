import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

from attar.data import load_data
from attar.data.sources.wrap import statistics, wrap
from attar.errors import AttarError

BYTES = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(BYTES).permute(2, 0, 1)


@pytest.mark.parametrize(
    "image",
    [BYTES, TENSOR, TENSOR / 255, Image.fromarray(BYTES), BYTES / 255],
    ids=["array", "byte", "float", "pil", "double"],
)
def test_every_kind_of_image_becomes_the_same_bytes(image):
    images = wrap([(image, 0), (image, 1)])
    assert torch.equal(images.images[1], TENSOR)
    assert images.labels.tolist() == [0, 1]
    assert images.classes == ("0", "1")


@pytest.mark.parametrize(
    "image", [torch.zeros(4, 5), np.zeros((4, 5, 1)), Image.new("L", (5, 4)), torch.zeros(1, 4, 5)]
)
def test_grey_images_have_one_channel(image):
    assert wrap([(image, 0)]).image_shape == (1, 4, 5)


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK"])
def test_other_pillow_modes_become_rgb(mode):
    assert wrap([(Image.new(mode, (5, 4)), 0)]).image_shape == (3, 4, 5)


def test_a_torch_dataset_is_read():
    images = wrap(TensorDataset(torch.rand(6, 3, 4, 4), torch.arange(6) % 2))
    assert len(images) == 6
    assert images.labels.tolist() == [0, 1] * 3


def test_classes_come_from_the_data_set_or_the_caller():
    class Pets(list):
        classes = ("cat", "dog")

    pets = Pets([(TENSOR, 1)])
    assert wrap(pets).classes == ("cat", "dog")
    assert wrap(pets, classes=["a", "b", "c"]).classes == ("a", "b", "c")


def test_statistics_are_the_data_s():
    pixels = torch.randint(256, (7, 3, 4, 4), dtype=torch.uint8)
    mean, std = statistics(pixels)
    values = pixels.double().div(255).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.tensor(mean).double(), values.mean(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.tensor(std).double(), values.std(1, correction=0), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 3], r"labels of 'custom' are 1\.\.3, but no item has the label 0"),
        ([0, 1, 255], r"are 0\.\.255, but no item has the label 2"),
        ([0.7, 1.7], "item 0 has the label 0.7; expected the whole number of a class"),
        ([0, torch.tensor(1.7)], "item 1 has the label 1.7"),
        ([0, np.float32("nan")], "item 1 has the label nan"),
        ([0, torch.tensor([0, 1])], "no .image, class number. pair"),
        ([-1, 0, 1], "must be 0.., got -1"),
    ],
)
def test_labels_that_number_no_classes_are_refused(labels, message):
    with pytest.raises(AttarError, match=message):
        wrap([(TENSOR, label) for label in labels])


@pytest.mark.parametrize("one", [1, 1.0, True, np.int64(1), torch.tensor(1), torch.tensor([1])])
def test_whole_numbers_of_every_type_are_labels(one):
    assert wrap([(TENSOR, 0), (TENSOR, one)]).labels.tolist() == [0, 1]


def test_booleans_are_two_classes_of_their_names():
    images = wrap([(TENSOR, True), (TENSOR, torch.tensor(False)), (TENSOR, np.bool_(True))])
    assert (images.labels.tolist(), images.classes) == ([1, 0, 1], ("False", "True"))
    assert wrap([(TENSOR, True), (TENSOR, False)], classes=["healthy", "ill"]).classes == ("healthy", "ill")


def test_classes_that_have_no_training_images_are_named():
    images = wrap([(TENSOR, 0), (TENSOR, 2)] * 10, classes=["ant", "bee", "cow", "dog"])
    assert load_data(images, val_fraction=0).notes == ("classes without training images: 'bee', 'dog'",)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Stream(), "with a length"),
        ([], "is empty"),
        ([TENSOR], "no .image, class number. pair"),
        ([(TENSOR, "cat")], "no .image, class number. pair"),
        ([(TENSOR, 0), (TENSOR[:, 1:], 0)], r"image 1 is \(3, 4, 6\), image 0 is \(3, 5, 6\)"),
        ([(TENSOR, -1)], r"must be 0\.\."),
        ([(TENSOR.permute(1, 2, 0), 0)], "expected 1 or 3 channels"),
        ([(torch.randn(3, 4, 4) * 3, 0)], "leave the normalisation to Attar"),
        ([(torch.full((3, 4, 4), torch.nan), 0)], "floats in 0..1"),
        ([(torch.zeros(3, 4, 4, dtype=torch.int64), 0)], "expected uint8"),
        ([("picture.png", 0)], "expected a tensor"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(dataset, message):
    with pytest.raises(AttarError, match=message):
        wrap(dataset)


class Named(list):
    """Pairs with names of classes."""

    def __init__(self, classes):
        super().__init__([(torch.zeros(3, 4, 4), 0), (torch.ones(3, 4, 4), 1)])
        self.classes = classes


@pytest.mark.parametrize("classes", [np.array(["a", "b"]), ("a", "b"), {"a": 0, "b": 1}])
def test_names_of_classes_stand_in_anything_that_has_an_order(classes):
    assert wrap(Named(classes)).classes == ("a", "b")


def test_a_number_of_classes_is_no_list_of_names():
    with pytest.raises(AttarError, match=r"the classes of .* are 3; expected their names"):
        wrap(Named(3))


def test_an_image_without_pixels_is_named():
    with pytest.raises(AttarError, match=r"image 0 has shape \(3, 0, 8\) .*; expected 1 or 3 channels of a pixel"):
        wrap([(torch.zeros(3, 0, 8), 0)])
