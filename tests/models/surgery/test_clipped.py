"""ReLU6 in less memory: the same numbers, fewer bytes for the way back."""

import copy

import pytest
import torch
from torch import nn

import attar
from attar.models.surgery.clipped import ReLU6, slimmed


def held(net: nn.Module, images: torch.Tensor) -> int:
    """Bytes that the graph of a pass keeps, each storage once."""
    kept = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = net(images)
    del output
    return sum(kept.values())


@pytest.mark.parametrize("inplace", [True, False])
def test_numbers_gradients_and_second_gradients_are_those_of_torch(inplace):
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(inplace), nn.Conv2d(8, 4, 3))
    slim = slimmed(copy.deepcopy(plain))
    assert (type(slim[2]), slim[2].inplace) == (ReLU6, inplace)
    images = 30 * torch.randn(2, 3, 8, 8)
    found = []
    for net in (plain, slim):
        output = net(images)
        (gradient,) = torch.autograd.grad(output.square().sum(), [net[0].weight], create_graph=True)
        gradient.square().sum().backward()
        found.append([output, gradient, *(p.grad for p in net.parameters() if p.grad is not None)])
    assert len(found[0]) > 4
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert torch.equal(plain[1].running_var, slim[1].running_var)


def test_borders_and_nan_pass_what_torch_passes():
    values = torch.tensor([-1.0, 0.0, 1e-30, 6.0, 6.1, float("nan"), float("inf")])
    found = []
    for relu in (nn.ReLU6(), ReLU6()):
        x = values.clone().requires_grad_()
        relu(x).backward(torch.arange(1.0, 8.0))
        found.append(x.grad)
    torch.testing.assert_close(*found, rtol=0, atol=0, equal_nan=True)


def test_what_is_not_trained_keeps_torchs_own_function_which_exporters_know():
    x = torch.ones(2, requires_grad=True)
    assert ["Clipped" in type(net(x).grad_fn).__name__ for net in (ReLU6().train(), ReLU6().eval())] == [True, False]


@pytest.mark.parametrize("inplace", [True, False])
def test_gradients_of_single_samples(inplace):
    net = slimmed(nn.Sequential(nn.Linear(3, 4), nn.ReLU6(inplace), nn.Linear(4, 1)))
    weights, samples = dict(net.named_parameters()), 9 * torch.randn(5, 3)

    def loss(weights, x):
        return torch.func.functional_call(net, weights, (x,)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, samples)
    whole = torch.autograd.grad(loss(weights, samples), list(weights.values()))
    for one, other in zip(each.values(), whole, strict=True):
        torch.testing.assert_close(one.sum(0), other)


def test_the_graph_of_a_librarys_network_keeps_less():
    pytest.importorskip("timm")
    slim = attar.create_model("timm/mobilenetv2_035", num_classes=4, image_size=64).train()
    assert not any(type(module) is nn.ReLU6 for module in slim.modules())
    plain = copy.deepcopy(slim)
    for parent in list(plain.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ReLU6):
                setattr(parent, name, nn.ReLU6(inplace=True))
    images, weights = torch.randn(2, 3, 64, 64), sum(parameter.nbytes for parameter in slim.parameters())
    assert held(slim, images) - weights < 0.8 * (held(plain, images) - weights)
