"""ImageNet's classes by the names that data sets give theirs."""

import pytest

from attar.errors import AttarError
from attar.models.libraries.imagenet_classes import imagenet_rows


def test_names_in_any_spelling_and_wordnet_numbers():
    assert imagenet_rows(["garbage truck", "Garbage-Truck", "dustcart", "n03417042"]) == [569] * 4


def test_a_name_of_two_classes_asks_for_numbers():
    with pytest.raises(AttarError, match=r"2 classes called 'crane' \(\[134, 517\]\)"):
        imagenet_rows(["tench", "crane"])


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(AttarError, match="no class 'golfbal'; did you mean 'golf ball'"):
        imagenet_rows(["golfbal"])
