"""One pass through any network, with the features asked for."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from attar.errors import AttarError
from attar.models import Tapped, classifier_of, create_model, observe, tap_shapes


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


class Returns(nn.Module):
    """A network whose output is wrapped."""

    def __init__(self, wrap):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.fc(x))


class Wraps(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_hooks_give_what_the_modules_gave_and_go_away():
    net = plain()
    images = torch.randn(2, 1, 8, 8)
    output = Tapped(net)(images, ["0", "pooled"])
    torch.testing.assert_close(output.tap("0"), net[0](images))
    torch.testing.assert_close(output.tap("pooled"), net[:4](images))
    torch.testing.assert_close(output.logits, net(images))
    assert not any(module._forward_hooks for module in net.modules())


def test_hooks_go_away_after_an_error():
    net = plain()
    with pytest.raises(RuntimeError):
        observe(net, torch.randn(2, 5, 8, 8), ["0"])
    assert not net[0]._forward_hooks


def test_gradients_flow_through_taps():
    net = plain()
    observe(net, torch.randn(2, 1, 8, 8), ["1"]).tap("1").sum().backward()
    assert net[0].weight.grad is not None
    assert net[4].weight.grad is None


def test_calls_in_flight_do_not_mix():
    net = plain()
    batches = [torch.full((1, 1, 8, 8), float(number)) for number in range(16)]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda images: observe(net, images, ["0"]), batches))
    for images, output in zip(batches, outputs, strict=True):
        torch.testing.assert_close(output.tap("0"), net[0](images))


def test_a_staged_network_gives_its_own_taps():
    tapped = Tapped(create_model("resnet8"))
    assert tapped(torch.randn(2, 3, 16, 16), ["stage3"]).tap("stage3").shape == (2, 64, 4, 4)
    assert tapped.classifier is tapped.module.fc


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: logits,
        lambda logits: (logits, {"feats": []}),
        lambda logits: {"logits": logits},
        lambda logits: SimpleNamespace(logits=logits),
    ],
)
def test_usual_outputs(wrap):
    assert observe(Returns(wrap), torch.randn(2, 4)).logits.shape == (2, 3)


@pytest.mark.parametrize("wrap", [lambda logits: None, lambda logits: {"out": logits}, lambda logits: ()])
def test_an_output_without_logits(wrap):
    with pytest.raises(AttarError, match="without logits; return a tensor"):
        observe(Returns(wrap), torch.randn(2, 4))


def test_an_overwritten_tap_is_an_error_not_a_wrong_number():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 3))
    with pytest.raises(AttarError, match="'0' is overwritten in place"):
        observe(net, torch.randn(2, 4), ["0"])
    with torch.inference_mode():
        assert observe(net, torch.randn(2, 4), ["1"]).tap("1").shape == (2, 4)


def test_taps_that_cannot_be():
    net = plain()
    images = torch.randn(2, 1, 8, 8)
    with pytest.raises(AttarError, match="unknown tap 'poled'; did you mean 'pooled'"):
        observe(net, images, ["poled"])
    with pytest.raises(AttarError, match="gives a dict, not a tensor"):
        observe(nn.Sequential(Returns(lambda x: {"x": x}), Wraps(lambda x: x["x"])), torch.randn(2, 4), ["0"])
    unused = Returns(lambda logits: logits)
    unused.spare = nn.ReLU()
    with pytest.raises(AttarError, match="'spare' did not run"):
        observe(unused, torch.randn(2, 4), ["spare"])


def test_the_first_tensor_of_a_tuple_is_tapped():
    net = nn.Sequential(nn.LSTM(4, 4), Wraps(lambda x: x[0]))
    images = torch.randn(2, 4)
    torch.testing.assert_close(observe(net, images, ["0"]).tap("0"), net(images))


def test_modules_of_a_staged_network_are_tapped_by_path():
    net = create_model("resnet8", num_classes=4).eval()
    images = torch.randn(2, 3, 8, 8)
    output = observe(net, images, ["stage2", "layer2.0.conv1"])
    torch.testing.assert_close(output.logits, net(images))
    torch.testing.assert_close(output.tap("stage2"), observe(net, images, ["stage2"]).tap("stage2"))
    assert output.tap("layer2.0.conv1").shape == (2, 32, 4, 4)


def test_classifier_of():
    net = plain()
    assert classifier_of(net) is net[4]
    with pytest.raises(AttarError, match="has no linear layer"):
        classifier_of(nn.Conv2d(1, 1, 1))


def test_tap_shapes_leaves_no_trace():
    net = create_model("resnet8").train()
    net.layer2.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert tap_shapes(net, ["stage1.preact"]) == {"stage1.preact": (16, 32, 32)}
    assert net.training
    assert not net.layer2[0].training
    assert net.layer3[0].training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_tap_shapes_of_a_plain_network():
    assert tap_shapes(plain(), ["1", "pooled"], (1, 6, 4)) == {"1": (4, 6, 4), "pooled": (4,)}
    with pytest.raises(AttarError, match="does not say its input_shape"):
        tap_shapes(plain(), ["1"])
