"""Faster engines output what the network outputs; a frozen network returns outputs handed over for a batch."""

import pytest
import torch
from torch import nn

from attar.knowledge import Output
from attar.models import Frozen, Plain, create_model, fingerprint
from attar.teachers.engines import Folded


def trained(name="resnet8"):
    """A network whose norms have statistics and scales of their own."""
    torch.manual_seed(3)
    net = create_model(name, num_classes=10).train()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        for _ in range(3):
            net(torch.randn(8, 3, 32, 32))
    return net.eval()


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
def test_folding_changes_nothing_in_float32(name):
    net, images = trained(name), torch.randn(2, 3, 32, 32)
    before = fingerprint(net)
    with torch.no_grad():
        truth, output = Plain(net)(images, ("stage2",)), Folded(net, torch.float32)(images, ("stage2",))
    torch.testing.assert_close(output.logits, truth.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.tap("stage2"), truth.tap("stage2"), rtol=1e-4, atol=1e-4)
    assert fingerprint(net) == before


def test_every_norm_behind_a_convolution_is_folded():
    assert not [m for m in Folded(trained(), torch.float32).module.modules() if isinstance(m, nn.BatchNorm2d)]


def test_bfloat16_is_near_and_comes_back_as_float32():
    net, images = trained(), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        truth, output = net(images), Folded(net, torch.bfloat16)(images, ("stage3",))
    assert output.logits.dtype == output.tap("stage3").dtype == torch.float32
    assert (output.logits - truth).norm() < 0.03 * truth.norm()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert Folded(net, torch.bfloat16)(images, ("stage3",)).tap("stage3").dtype == torch.bfloat16


class Counting(Plain):
    calls = 0

    def __call__(self, images, taps=()):
        self.calls += 1
        return super().__call__(images, taps)


def with_outputs(taps=None):
    frozen = Frozen(create_model("resnet8", num_classes=10))
    frozen.engine = Counting(frozen.module)
    images = torch.randn(2, 3, 32, 32)
    known = Output(torch.full((2, 10), 7.0), taps or {})
    frozen.set_output(images, known)
    return frozen, images, known


def test_outputs_that_were_handed_over_are_not_computed():
    frozen, images, known = with_outputs()
    assert frozen(images) is known
    assert frozen.engine.calls == 0


@pytest.mark.parametrize("other", ["equal", "written to", "taps", "requested", "forgotten", "moved"])
def test_anything_else_is_computed(other):
    frozen, images, known = with_outputs()
    taps = ()
    if other == "equal":
        images = images.clone()
    elif other == "written to":
        images.mul_(1.0)
    elif other == "taps":
        taps = ("stage1",)
    elif other == "requested":
        frozen.request("stage1")
    elif other == "forgotten":
        frozen.clear_output()
    else:
        frozen.to("cpu")
    assert not torch.equal(frozen(images, taps).logits, known.logits)


def test_taps_that_were_handed_over_are_used():
    frozen, images, known = with_outputs({"stage1": torch.zeros(1)})
    assert frozen(images, ("stage1",)) is known


def test_a_moved_method_computes_with_the_network_itself():
    from attar.methods import create_method

    method = create_method("kd", teacher=trained(), student=create_model("resnet8", num_classes=10))
    method.teacher.engine = Folded(method.teacher.module, torch.float32)
    method.to(torch.float64)
    assert method.teacher(torch.randn(2, 3, 32, 32, dtype=torch.float64)).logits.dtype == torch.float64


def test_a_fingerprint_follows_every_weight_statistic_and_setting():
    net = trained()
    first = fingerprint(net)
    assert fingerprint(trained()) == first
    net.bn1.running_mean[0] += 1e-6
    second = fingerprint(net)
    net.bn1.eps = 1e-3
    assert len({first, second, fingerprint(net)}) == 3
