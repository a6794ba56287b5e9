"""Losses between the images of a batch: the memory of 1,024 images is that of a few B x B matrices."""

import sys

import pytest
import torch

from attar import losses
from attar.losses import parts
from attar.losses.logit_relations import whitened_similarity
from attar.profiling.memory import Alive

CONTRAST = sys.modules["attar.losses.contrast"]  # the function of the package has its name
BATCH, WIDTH = 1024, 64
MATRIX = 4 * BATCH**2  # bytes of B x B numbers; B x B x D would be 64 of them


def embeddings(batch=BATCH, dtype=torch.float32):
    return torch.randn(batch, WIDTH, dtype=dtype, requires_grad=True), torch.randn(batch, WIDTH, dtype=dtype)


def peak(loss, learner, *others):
    """The bytes of a loss and its backward pass."""
    with Alive([learner, *others]) as alive:
        loss(learner, *others).backward()
    return alive.peak


@pytest.mark.parametrize(
    "loss",
    [
        losses.rkd_distance, losses.sp, losses.pkt, losses.information_flow, losses.cc, losses.redundancy,
        losses.linear_cka, whitened_similarity,
    ],
)  # fmt: skip
def test_relations_keep_a_few_matrices(loss):
    assert peak(loss, *embeddings()) < 24 * MATRIX


def test_views_keep_a_few_matrices():
    views = torch.randn(BATCH, 2, WIDTH, requires_grad=True)
    assert peak(losses.angular_inter, views, torch.randn(BATCH, WIDTH)) < 24 * MATRIX
    assert peak(losses.angular_intra, views, torch.randn(BATCH, WIDTH)) < 24 * MATRIX


def test_a_memory_of_all_images_is_compared_in_parts(monkeypatch):
    learner, images = torch.randn(256, WIDTH, requires_grad=True), 16_384
    memory, index = torch.randn(images, WIDTH), torch.arange(256)
    given = (memory, index, torch.arange(images) % 100, torch.tensor(1.0))
    whole = peak(losses.contrast, learner, *given)
    assert whole > 2 * 4 * 256 * images
    monkeypatch.setattr(CONTRAST, "SIMILARITIES", 2**18)
    assert peak(losses.contrast, learner, *given) < whole / 8


def test_the_angles_of_a_large_batch_are_computed_in_parts(monkeypatch):
    batch = 96
    whole = peak(losses.rkd_angle, *embeddings(batch))
    assert whole > 4 * 4 * batch**3
    monkeypatch.setattr(parts, "TOGETHER", 2 * batch**2)
    assert peak(losses.rkd_angle, *embeddings(batch)) < whole / 8


def test_distances_of_labels_are_compared_some_labels_at_a_time(monkeypatch):
    shape, labels = (48, 40, 3), torch.rand(48, 40) < 0.3
    learner, source = torch.randn(shape, requires_grad=True), torch.randn(shape)
    for loss in (losses.class_structure, losses.instance_structure):
        monkeypatch.setattr(parts, "TOGETHER", 2**22)
        whole, value = peak(loss, learner, source, labels), loss(learner, source, labels, "none")
        (gradient,) = torch.autograd.grad(value.sum(), learner)
        monkeypatch.setattr(parts, "TOGETHER", 2 * 48**2)
        assert peak(loss, learner, source, labels) < whole / 4
        found = loss(learner, source, labels, "none")
        torch.testing.assert_close(found, value)
        torch.testing.assert_close(torch.autograd.grad(found.sum(), learner)[0], gradient)


def test_angles_in_parts_are_the_angles(monkeypatch):
    learner, source = embeddings(11, torch.float64)
    found = []
    for together in (11**3, 4 * 11**2, 1):  # whole, four points at a time and a rest of three, one at a time
        monkeypatch.setattr(parts, "TOGETHER", together)
        value = losses.rkd_angle(learner, source)
        found.append((value.detach(), *torch.autograd.grad(value, learner)))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-12, atol=1e-15)


def test_a_memory_in_parts_is_the_memory(monkeypatch):
    learner, memory = embeddings(6, torch.float64)
    memory = torch.randn(50, WIDTH, dtype=torch.float64)
    given = (memory, torch.arange(6), torch.arange(50) % 3, torch.tensor(2.0, dtype=torch.float64))
    found = []
    for together in (CONTRAST.SIMILARITIES, 6 * 7):
        monkeypatch.setattr(CONTRAST, "SIMILARITIES", together)
        value = losses.contrast(learner, *given)
        found.append((value.detach(), CONTRAST.log_mean_score(learner.detach(), memory)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-15)
