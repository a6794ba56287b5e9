"""The public CIFAR-100 checkpoints keep their published accuracy in the zoo's networks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from attar.data import ImageSet, eval_batches
from attar.metrics import evaluate
from attar.models import create_model, load_weights

# What the checkpoints were trained with.
MEAN, STD = (0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)


@pytest.fixture(scope="module")
def test_set(attar_data: Path) -> ImageSet:
    spec = importlib.util.spec_from_file_location("unpack", attar_data / "unpack.py")
    unpack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unpack)
    part = np.load(attar_data / "cifar100-test.npz")
    images = np.concatenate(list(unpack.mosaics(part))).transpose(0, 3, 1, 2)
    labels = torch.from_numpy(part["fine"].astype(np.int64))
    classes = tuple(str(name) for name in part["fine_names"])
    return ImageSet(torch.from_numpy(np.ascontiguousarray(images)), labels, classes, "cifar100", MEAN, STD)


# Of how many images, and how far from what was published: another processor may round a tie the other way, and a fifth
# of the images, which says enough of the larger ones, has a standard error of a hundredth.
WHOLE, FIFTH = (10_000, 0.0002), (2_000, 0.03)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "published", "images_and_error"),
    [
        ("resnet20", 0.6883, FIFTH),
        pytest.param("resnet20", 0.6883, WHOLE, marks=pytest.mark.slow),
        pytest.param("resnet32", 0.7016, FIFTH, marks=pytest.mark.slow),
        pytest.param("resnet44", 0.7163, FIFTH, marks=pytest.mark.slow),
        pytest.param("resnet56", 0.7263, FIFTH, marks=pytest.mark.slow),
    ],
)
def test_published_accuracy(
    attar_data: Path, test_set: ImageSet, name: str, published: float, images_and_error: tuple[int, float]
) -> None:
    images, error = images_and_error
    net = create_model(name, num_classes=100)
    load_weights(net, attar_data / "weights" / f"cifar100-{name}.pth")
    scores = evaluate(net, eval_batches(test_set.subset(torch.arange(images)), 250))
    assert abs(scores.top1 - published) <= error + 1e-9
