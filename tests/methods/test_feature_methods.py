"""Offline methods on features: what each compares, by hand."""

import pytest
import torch
import torch.nn.functional as F

from attar import losses
from attar.batch import Batch
from attar.methods import create_method
from attar.models import create_model


def built(name, **options):
    torch.manual_seed(0)
    teacher, student = (
        create_model(net, num_classes=5, in_channels=1, image_size=8) for net in ("resnet14", "resnet8")
    )
    return create_method(name, teacher=teacher, student=student, image_shape=(1, 8, 8), **options).double()


def batch():
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Batch(images, torch.tensor([0, 1, 2, 3]), torch.arange(4))


def values(method, *names):
    found = method.batch_losses(batch())
    return found, [found.knowledge[name].detach() for name in names]


def test_the_variance_of_vid_begins_at_five():
    loss = losses.VariationalInformation(3)
    assert loss.log_scale.tolist() == pytest.approx([4.993229] * 3, abs=1e-5)
    assert [edge.loss.log_scale.requires_grad for edge in built("vid").edges[1:]] == [True] * 3


def test_activation_maps_of_catkd_average_to_logits():
    method = built("catkd")
    _, (maps, logits) = values(method, "student.activation", "student.logits")
    bias = method.student.module.classifier.bias.detach()
    torch.testing.assert_close(maps.mean((2, 3)) + bias, logits)


def test_srrl_leaves_the_teachers_classifier():
    method = built("srrl")
    found, (connected, regressed) = values(method, "student.connected", "student.regressed")
    found.total.backward()
    classifier = method.teacher.classifier
    torch.testing.assert_close(regressed, F.linear(connected.mean((2, 3)), classifier.weight, classifier.bias))
    assert classifier.weight.grad is None
    assert method.connector[0].weight.grad.abs().sum() > 0


def test_the_projection_of_vkd_stays_orthogonal():
    method = built("vkd")
    optimiser = torch.optim.SGD(method.trainable(), 0.5)
    for _ in range(3):
        optimiser.zero_grad()
        method.batch_losses(batch()).total.backward()
        optimiser.step()
    weight = method.projector.weight
    torch.testing.assert_close(weight @ weight.mT, torch.eye(len(weight), dtype=weight.dtype), atol=1e-5, rtol=0)


def test_redundancy_of_equal_features():
    features = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]], dtype=torch.float64)
    assert losses.redundancy(features, features).item() == pytest.approx(0.019999, abs=1e-6)
    other = torch.tensor([[1.0, 1, 0], [0, 2, 1], [0, 0, 1]], dtype=torch.float64)
    assert losses.redundancy(features, other, kappa=1.0).item() == pytest.approx(9.481662, abs=1e-6)


def test_pefd_averages_its_projectors():
    method = built("pefd", projectors=2)
    found, (own, theirs) = values(method, "student.pooled", "teacher.pooled")
    projected = sum(layer(own).relu() for layer in method.projector.layers) / 2
    expected = 1 - F.cosine_similarity(projected, theirs).mean()
    assert found["teacher.pooled->student.pooled"].item() == pytest.approx(expected.item(), abs=1e-12)


def test_wasserstein_distance_of_channels():
    own = torch.tensor([[[[1.0, 2], [3, 4]], [[0, 0], [1, 1]]]], dtype=torch.float64)
    theirs = torch.tensor([[[[2.0, 2], [2, 2]], [[1, 0], [1, 0]]]], dtype=torch.float64)
    assert losses.GaussianWasserstein()(own, theirs).item() == pytest.approx(2.658522, abs=1e-6)
