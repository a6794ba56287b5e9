"""The networks of the literature: their sizes, shapes and gradients."""

import json

import pytest
import torch
from torch import nn

from attar.errors import AttarError
from attar.models import build, create_model, list_models, model_info, register_model, tap_shapes

# At 100 classes: the networks of RepDistiller and mdistiller.
PARAMETERS = {
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg11": 9_277_284,
    "vgg13": 9_462_180,
    "vgg16": 14_774_436,
    "vgg19": 20_086_692,
    "resnet18": 11_220_132,
    "resnet34": 21_328_292,
    "resnet50": 23_705_252,
    "mobilenetv2": 812_836,
    "shufflenetv1": 949_258,
    "shufflenetv2": 1_355_528,
    "shufflenetv2_x1_5": 2_580_548,
}

# Channels and sides of stage1.. at 32x32, then the pooled channels.
STAGES = {
    "resnet20": ([(16, 32), (32, 16), (64, 8)], 64),
    "resnet8x4": ([(64, 32), (128, 16), (256, 8)], 256),
    "wrn_16_2": ([(32, 32), (64, 16), (128, 8)], 128),
    "wrn_40_1": ([(16, 32), (32, 16), (64, 8)], 64),
    "vgg8": ([(128, 16), (256, 8), (512, 4), (512, 4)], 512),
    "resnet50": ([(256, 32), (512, 16), (1024, 8), (2048, 4)], 2048),
    "mobilenetv2": ([(12, 16), (16, 8), (48, 4), (160, 2)], 1280),
    "shufflenetv1": ([(240, 16), (480, 8), (960, 4)], 960),
    "shufflenetv2": ([(116, 16), (232, 8), (464, 4)], 1024),
}


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_table_is_the_zoo():
    # csrnet counts objects and csinet compresses channels: they have no classes, and tests of their own.
    assert [name for name in list_models() if name not in ("csrnet", "csinet")] == sorted(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_counts_and_learns(name):
    net = create_model(name)
    assert count(net) == PARAMETERS[name]
    logits = net(torch.randn(3, 3, 32, 32))
    assert logits.shape == (3, 100)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("name", STAGES)
def test_stage_shapes(name):
    stages, pooled = STAGES[name]
    taps = [f"stage{number}" for number in range(1, len(stages) + 1)]
    shapes = tap_shapes(create_model(name), [*taps, "pooled"])
    assert [shapes[tap] for tap in taps] == [(channels, side, side) for channels, side in stages]
    assert shapes["pooled"] == (pooled,)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
def test_digits(name):
    net = create_model(name, num_classes=10, in_channels=1, image_size=8)
    assert net.input_shape == (1, 8, 8)
    assert net(torch.randn(5, 1, 8, 8)).shape == (5, 10)


def test_too_small_an_image_is_refused_at_once():
    with pytest.raises(AttarError, match="vgg8 needs images of 8x8 or more, got 4"):
        create_model("vgg8", image_size=4)


def test_convolutions_are_kaiming_normal_over_the_fan_out():
    net = create_model("resnet32x4")
    conv = net.get_submodule("layer3.1.conv1")
    assert conv.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)


def test_depths_and_widths_make_a_shallow_wide_branch():
    trunk = create_model("resnet32")
    wide = build({**trunk.spec, "depths": (5, 3, 3), "widths": (16, 64, 128)})
    # The branch from stage 1 that the literature counts: 3 blocks a stage, twice as wide.
    assert count(wide.without("stem", "stage1")) == 1_029_348


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet8", {}), ("wrn_16_1", {"widths": (8, 8, 8)}), ("mobilenetv2", {"width": 0.25})],
)
def test_spec_round_trip(name, options):
    net = create_model(name, num_classes=7, in_channels=1, image_size=16, **options)
    spec = json.loads(json.dumps(net.spec))
    rebuilt = build(spec)
    assert rebuilt.spec == net.spec == spec
    assert rebuilt.input_shape == (1, 16, 16)
    rebuilt.load_state_dict(net.state_dict())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create_model("wrn_40-2"), "unknown network 'wrn_40-2'; did you mean 'wrn_40_2'"),
        (lambda: create_model("resnet8", depth=2), "unknown option of resnet8 'depth'; did you mean 'depths'"),
        (lambda: create_model("resnet8", num_classes=-1), "num_classes is -1; give a positive number"),
        (lambda: create_model("resnet8", depths=(1, 1)), "depths .1, 1. and widths .16, 32, 64. differ"),
        (lambda: build({"kind": "modle"}), "unknown kind of spec 'modle'; did you mean 'model'"),
        (lambda: build({"num_classes": 3}), "the spec has no 'name'"),
    ],
)
def test_mistakes_are_answered(call, message):
    with pytest.raises(AttarError, match=message):
        call()


def test_a_name_is_registered_once():
    info = model_info("vgg8")
    assert (info.family, info.options) == ("vgg", ["depths", "widths"])
    with pytest.raises(AttarError, match="registered already"):
        register_model("vgg8", family="vgg", description="again", build=info.build)


@pytest.mark.parametrize("name", ["resnet8", "resnet50"])
def test_zero_gamma_starts_every_block_as_its_shortcut(name):
    net = create_model(name, num_classes=5, zero_gamma=True).eval()
    block = net.layer2[0]
    x = torch.rand(2, block.conv1.in_channels, 8, 8)
    assert torch.equal(block.preactivation(x), block.downsample(x))
    assert all(float(one.weight.detach().abs().min()) == 1 for one in net.modules() if one is net.bn1)
