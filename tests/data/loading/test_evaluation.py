"""Evaluation in batches sized from the images gives the scores of larger batches."""

import pytest
import torch
from torch import nn

from attar.data import ImageSet, eval_batch_size, eval_batches
from attar.metrics import evaluate


def test_a_batch_has_at_most_half_a_million_pixels():
    assert [eval_batch_size((3, size, size)) for size in (8, 32, 64, 128, 224)] == [250, 250, 128, 32, 10]


def test_the_scores_do_not_depend_on_it():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (70, 3, 128, 128), dtype=torch.uint8)
    images = ImageSet(pixels, torch.arange(70) % 4, tuple("abcd"), "noise", (0.5,) * 3, (0.25,) * 3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    small = evaluate(net.eval(), eval_batches(images, eval_batch_size(images.image_shape)))
    large = evaluate(net, eval_batches(images, 250))
    assert small.top1 == large.top1
    assert small.nll == pytest.approx(large.nll, rel=1e-6)
