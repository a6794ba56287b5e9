"""The bridge of SOKD: which part of a teacher it is, for every family and split."""

import pytest
import torch

from attar.errors import AttarError
from attar.models import Bridge, build, create_model
from attar.models.zoo.wide_resnet import WideResNet

FAMILIES = ["resnet14", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"]
SPLITS = [-1, 0, 1, "last"]


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def small(name):
    return create_model(name, num_classes=5, image_size=8).eval()


@pytest.mark.parametrize(
    ("teacher", "parameters"), [("wrn_40_2", 1_720_036), ("wrn_40_1", 434_084), ("wrn_16_2", 538_340)]
)
def test_sizes_of_the_paper(teacher, parameters):
    assert count(Bridge(create_model(teacher))) == parameters


def test_size_beside_wrn_28_4():
    assert count(Bridge(WideResNet(depths=(4, 4, 4), widths=(64, 128, 256)))) == 4_486_500


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_of_the_teachers_part_says_what_the_teacher_says(family, split):
    teacher, images = small(family), torch.randn(3, 3, 8, 8)
    bridge = Bridge(teacher, split, "teacher").eval()
    taps = [bridge.source] if bridge.source else []
    taught = teacher.features(images, taps)
    printed = bridge(taught.tap(bridge.source) if taps else images, ["pooled"])
    torch.testing.assert_close(printed.logits, taught.logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(bridge.on(teacher).eval()(images), taught.logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_joined_network_is_the_teachers_architecture(family, split):
    teacher, images = small(family), torch.randn(3, 3, 8, 8)
    bridge = Bridge(teacher, split).eval()
    joined = bridge.on(teacher)
    assert list(joined.state_dict()) == list(teacher.state_dict())
    assert count(joined) == count(teacher)
    again = build(joined.spec)
    again.load_state_dict(joined.state_dict())
    assert torch.equal(again.eval()(images), joined(images))
    if bridge.source:
        assert torch.equal(joined(images), bridge(teacher.features(images, [bridge.source]).tap(bridge.source)).logits)


def test_a_split_is_a_partition():
    teacher = small("resnet14")
    below = {0: 0, 1: 2, 2: 2, 3: 2}  # the stem's modules; with split 0 the bridge has its own
    for split, stem in below.items():
        parts = [name for name, _ in Bridge(teacher, split).upper.named_children()]
        assert len(parts) == 6 - stem - split


def test_a_random_bridge_is_begun_anew():
    teacher = small("resnet14").requires_grad_(False)
    bridge = Bridge(teacher)
    assert all(parameter.requires_grad for parameter in bridge.parameters())
    assert bridge.training
    own, theirs = bridge.upper.layer3[0].conv1.weight, teacher.layer3[0].conv1.weight
    assert not torch.equal(own, theirs)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_the_teacher_is_not_changed():
    teacher = small("resnet14")
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    bridge = Bridge(teacher, 0, "teacher")
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("split", [4, -4, "first", 1.5])
def test_splits_that_do_not_exist(split):
    with pytest.raises(AttarError, match=r"the teacher has 3 stages: give -3..3 or 'last'"):
        Bridge(small("resnet14"), split)


def test_unknown_init():
    with pytest.raises(AttarError, match="did you mean 'random'"):
        Bridge(small("resnet14"), init="rand")
