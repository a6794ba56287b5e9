"""Stem, stages and head: run alone, they are the network."""

import pytest
import torch
import torch.nn.functional as F

from attar.errors import AttarError
from attar.models import create_model, fresh_copy

FAMILIES = ["resnet8", "resnet50", "wrn_16_1", "vgg11", "mobilenetv2", "shufflenetv1", "shufflenetv2"]
ENDS_IN_RELU = {"resnet8", "resnet50", "vgg11", "shufflenetv1", "shufflenetv2"}


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_parts_are_the_network(name, images):
    net = create_model(name, image_size=16).eval()
    output = net.features(images, net.tap_names)
    x = net.stem(images)
    torch.testing.assert_close(output.tap("stem"), x, rtol=0, atol=0)
    for index, stage in enumerate(net.stages):
        plain = stage(x)
        x, before = net.run_stage(index, x)
        torch.testing.assert_close(x, plain)
        torch.testing.assert_close(output.tap(f"stage{index + 1}"), x, rtol=0, atol=0)
        torch.testing.assert_close(output.tap(f"stage{index + 1}.preact"), before, rtol=0, atol=0)
    torch.testing.assert_close(output.tap("final"), net.final(x))
    torch.testing.assert_close(output.tap("final").mean((2, 3)), output.tap("pooled"))
    torch.testing.assert_close(net.classifier(net.pool(x)), output.logits)
    torch.testing.assert_close(net(images), output.logits, rtol=0, atol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_preactivation(name, images):
    net = create_model(name, image_size=16).eval()
    output = net.features(images, net.tap_names)
    for number in range(1, len(net.stages) + 1):
        value, before = output.tap(f"stage{number}"), output.tap(f"stage{number}.preact")
        if name in ENDS_IN_RELU:
            assert (before < 0).any()
            torch.testing.assert_close(F.relu(before), value)
        else:
            assert before is value


def test_only_what_was_asked_for_is_returned(images):
    net = create_model("resnet8")
    assert net.features(images).taps == {}
    assert set(net.features(images, ["stage2", "stem"]).taps) == {"stage2", "stem"}


def test_unknown_tap_and_part(images):
    net = create_model("resnet8")
    with pytest.raises(AttarError, match="unknown tap 'stage4'; did you mean"):
        net.features(images, ["stage4"])
    with pytest.raises(AttarError, match="unknown part 'stage4'; did you mean"):
        net.without("stage4")


def test_a_tail_resumes_where_the_trunk_stopped(images):
    net = create_model("wrn_16_2").eval()
    tail = net.without("stem", "stage1", "stage2")
    output = net.features(images, ["stage2"])
    torch.testing.assert_close(tail.resume(output.tap("stage2"), start=2).logits, output.logits)
    assert not [key for key in tail.state_dict() if key.startswith(("conv1", "stage1", "stage2"))]
    assert tail.fc is net.fc
    assert tail.spec is None


def test_a_bridge_is_a_fresh_tail():
    bridge = fresh_copy(create_model("wrn_40_2").without("stem", "stage1", "stage2"))
    # The knowledge bridge module of semi-online distillation for a WRN-40-2 teacher.
    assert sum(parameter.numel() for parameter in bridge.parameters()) == 1_720_036
    assert bridge.resume(torch.randn(2, 64, 16, 16), start=2, taps=["pooled"]).tap("pooled").shape == (2, 128)
