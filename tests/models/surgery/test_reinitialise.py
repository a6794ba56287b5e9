"""A fresh copy shares nothing with the original."""

import pytest
import torch
from torch import nn

from attar.errors import AttarError
from attar.models import ProjectedNet, SimKDProjector, create_model, fresh_copy, reinitialise


@pytest.mark.parametrize(
    "make",
    [
        lambda: create_model("resnet8"),
        lambda: create_model("resnet8").without("stem", "stage1"),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)),
        lambda: ProjectedNet(create_model("resnet8"), SimKDProjector(64, 16), nn.Linear(16, 5)),
    ],
)
def test_independent_and_new(make):
    net = make()
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.fill_(3.0)
    frozen = net.requires_grad_(False).eval()
    fresh = fresh_copy(frozen)
    own, new = dict(net.named_parameters()), dict(fresh.named_parameters())
    assert own.keys() == new.keys()
    assert not {value.data_ptr() for value in own.values()} & {value.data_ptr() for value in new.values()}
    assert all(not torch.equal(own[key], new[key]) for key in own if own[key].ndim > 1)
    assert all(value.requires_grad for value in new.values())
    assert fresh.training
    assert not any((buffer == 3).any() for buffer in fresh.buffers())


def test_a_staged_network_keeps_its_initialisation():
    fresh = fresh_copy(create_model("resnet32x4"))
    assert fresh.get_submodule("layer3.1.conv1").weight.std().item() == pytest.approx((2 / 2304) ** 0.5, rel=0.01)


def test_surgery_survives():
    net = create_model("resnet8")
    net.fc = nn.Linear(64, 7)
    assert fresh_copy(net).classifier.out_features == 7


def test_a_parameter_that_cannot_be_drawn_anew_stops_before_any_change():
    net = nn.Sequential(nn.Linear(2, 2), nn.Module())
    net[1].scale = nn.Parameter(torch.ones(1))
    before = net[0].weight.clone()
    with pytest.raises(AttarError, match="Module at '1' cannot be initialised anew"):
        reinitialise(net)
    assert torch.equal(net[0].weight, before)
