"""Networks of timm and torchvision: staged, they are the same function; named, they can be saved and found again."""

import copy
import json
from functools import partial
from importlib.util import find_spec
from itertools import pairwise

import pytest
import torch
from torch import nn

from attar.deploy import load
from attar.deploy.package import save
from attar.errors import AttarError
from attar.methods import create_method
from attar.models import (
    Staged,
    as_staged,
    build,
    create_model,
    fresh_copy,
    has_tap,
    list_models,
    load_weights,
    model_info,
    native_state,
)
from attar.models.libraries.imports import import_timm, import_torchvision
from attar.models.libraries.staged_network import LibraryStaged
from attar.models.weights import fit

if find_spec("timm") is None or find_spec("torchvision") is None:
    pytest.skip("timm and torchvision are not installed", allow_module_level=True)
timm, models = import_timm(), import_torchvision().models
CLASSES, SIDE = 7, 64
TINY_SWIN = {"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2), "img_size": SIDE}


def of_timm(name, **options):
    return lambda: timm.create_model(name, num_classes=CLASSES, **options)


def convnext():
    block = models.convnext.CNBlockConfig
    widths = (8, 16, 24, 32, None)
    settings = [block(width, after, 1) for width, after in pairwise(widths)]
    return models.ConvNeXt(settings, num_classes=CLASSES)


def vgg():
    net = models.VGG(models.vgg.make_layers([8, "M", 16, "M", 16, "M", 32, "M", 32, "M"]), init_weights=False)
    # Its linear layers have fixed widths that would take most of a minute.
    for number, (inputs, outputs) in {0: (32 * 49, 64), 3: (64, 64), 6: (64, CLASSES)}.items():
        net.classifier[number] = nn.Linear(inputs, outputs)
    return net


# Each family's smallest network, and channels and side of its stages at 64x64.
FAMILIES = {
    "timm ResNet": (of_timm("test_resnet"), [(32, 16), (48, 8), (192, 4), (96, 2)]),
    "timm ConvNeXt": (of_timm("test_convnext"), [(24, 16), (32, 8), (48, 4), (64, 2)]),
    "timm EfficientNet": (of_timm("test_efficientnet"), [(16, 32), (24, 16), (32, 8), (48, 4), (64, 2)]),
    "timm MobileNetV2": (of_timm("mobilenetv2_035"), [(8, 32), (8, 16), (16, 8), (32, 4), (112, 2)]),
    "timm MobileNetV3": (of_timm("mobilenetv3_small_050"), [(8, 16), (16, 8), (24, 4), (288, 2)]),
    "timm RegNet": (of_timm("regnetx_002"), [(24, 16), (56, 8), (152, 4), (368, 2)]),
    "timm VGG": (of_timm("vgg11", mlp_ratio=0.02), [(128, 32), (256, 16), (512, 8), (512, 4)]),
    "timm ViT": (of_timm("test_vit", img_size=SIDE), [(128, 4)] * 4),
    "timm ViT, averaged": (of_timm("test_vit4", img_size=SIDE), None),
    "timm DeiT": (of_timm("deit_tiny_patch16_224", img_size=SIDE, depth=3), [(384, 4)] * 3),
    "timm Swin": (
        of_timm("swin_tiny_patch4_window7_224", **TINY_SWIN),
        [(16, 16), (32, 8), (64, 4), (128, 2)],
    ),
    "torchvision ResNet": (
        partial(models.resnet18, num_classes=CLASSES),
        [(64, 16), (128, 8), (256, 4), (512, 2)],
    ),
    "torchvision ConvNeXt": (convnext, [(8, 16), (16, 8), (24, 4), (32, 2)]),
    "torchvision EfficientNet": (
        partial(models.efficientnet_b0, num_classes=CLASSES),
        [(16, 32), (24, 16), (40, 8), (112, 4), (320, 2)],
    ),
    "torchvision MobileNetV2": (
        partial(models.mobilenet_v2, num_classes=CLASSES, width_mult=0.25),
        [(8, 32), (8, 16), (8, 8), (24, 4), (80, 2)],
    ),
    "torchvision MobileNetV3": (
        partial(models.mobilenet_v3_small, num_classes=CLASSES),
        [(16, 16), (24, 8), (48, 4), (96, 2)],
    ),
    "torchvision RegNet": (
        partial(models.regnet_x_400mf, num_classes=CLASSES),
        [(32, 16), (64, 8), (160, 4), (400, 2)],
    ),
    "torchvision VGG": (vgg, [(16, 32), (16, 16), (32, 8), (32, 4)]),
    "torchvision ViT": (
        partial(models.VisionTransformer, SIDE, 16, 5, 2, 32, 64, num_classes=CLASSES),
        [(64, 4)] * 4,
    ),
    "torchvision Swin": (
        partial(models.SwinTransformer, [4, 4], 16, [1, 1, 2, 1], [1, 1, 2, 2], [7, 7], num_classes=CLASSES),
        [(16, 16), (32, 8), (64, 4), (128, 2)],
    ),
}


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_staged_it_is_the_same_function(family, images):
    make, stages = FAMILIES[family]
    torch.manual_seed(0)
    own = make().eval()
    keys = set(own.state_dict())
    with torch.no_grad():
        expected = own(images)
    net = as_staged(own)
    assert isinstance(net, Staged)
    output = net.features(images, net.tap_names)
    torch.testing.assert_close(output.logits, expected, atol=1e-5, rtol=0)
    shapes = [tuple(output.tap(f"stage{number}").shape[1:]) for number in range(1, len(net.stages) + 1)]
    if stages is not None:
        assert shapes == [(channels, side, side) for channels, side in stages]
    torch.testing.assert_close(output.tap("final").mean((2, 3)), output.tap("pooled"))
    torch.testing.assert_close(net.classifier(net.pool(output.tap(f"stage{len(shapes)}"))), output.logits)
    # Stopped at a stage and resumed from its map, it says the same.
    torch.testing.assert_close(net.resume(output.tap("stage2"), start=2).logits, expected, atol=1e-5, rtol=0)
    assert set(native_state(net)) == keys
    output.logits.square().mean().backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


def test_a_stage_that_loses_a_module_is_noticed(images):
    # The test above must be able to fail: without its last norm the network is another function.
    own = of_timm("test_convnext")().eval()
    net = as_staged(copy.deepcopy(own))
    net.exit[2] = nn.Identity()
    assert not torch.allclose(net(images), own(images), atol=1e-5)


@pytest.mark.parametrize("family", ["torchvision MobileNetV2", "torchvision EfficientNet"])
def test_dropout_stays_where_it_was(family, images):
    net = as_staged(FAMILIES[family][0]()).eval()
    whole = net.features(images, ["pooled"]).tap("pooled")
    dropout = net.exit[-1].train()
    torch.manual_seed(0)
    dropped = net.features(images, ["pooled"]).tap("pooled")
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], (whole / (1 - dropout.p))[kept])
    assert 0.6 < kept.float().mean() < 0.95


def test_what_deviates_from_its_family_is_left_alone():
    assert as_staged(of_timm("resnet18", global_pool="max")()) is None
    assert as_staged(of_timm("test_nfnet")()) is None
    assert as_staged(create_model("resnet8")) is None


@pytest.mark.parametrize("name", ["timm/test_convnext", "timm/test_vit", "timm/test_nfnet"])
def test_a_fresh_copy_is_drawn_as_the_library_draws(name):
    net = create_model(name, num_classes=CLASSES, image_size=SIDE)
    fresh = fresh_copy(net)
    again = build(net.spec).state_dict()
    for key, value in fresh.state_dict().items():
        if value.is_floating_point() and value.numel() > 500:
            assert not torch.equal(value, net.state_dict()[key])
            assert value.std().item() == pytest.approx(again[key].std().item(), rel=0.3)
        if "gamma" in key:
            assert (value == 1e-6).all() or value.unique().numel() == 1


def test_a_library_network_is_saved_and_loaded(tmp_path, images):
    net = create_model("timm/test_resnet", num_classes=CLASSES, image_size=SIDE, drop_path_rate=0.1).eval()
    assert json.loads(json.dumps(net.spec)) == net.spec
    save(net, tmp_path / "student.safetensors")
    loaded = load(tmp_path)
    assert loaded.spec == net.spec
    assert loaded.input_shape == (3, SIDE, SIDE)
    assert torch.equal(loaded(images), net(images))


def test_torchvision_by_name(tmp_path, images):
    net = create_model("torchvision/mobilenet_v3_small", num_classes=CLASSES, in_channels=1, image_size=SIDE).eval()
    assert isinstance(net, LibraryStaged)
    save(net, tmp_path / "student.safetensors")
    assert torch.equal(load(tmp_path)(images[:, :1]), net(images[:, :1]))


def test_a_method_deploys_a_library_network(images):
    nets = [create_model("timm/test_efficientnet", num_classes=CLASSES, image_size=SIDE) for _ in range(2)]
    deployed = create_method("simkd", teacher=nets[0], student=nets[1]).deployed().eval()
    again = build(json.loads(json.dumps(deployed.spec)))
    again.load_state_dict(deployed.state_dict())
    assert torch.equal(again.eval()(images), deployed(images))


def test_a_network_of_no_family_has_module_paths():
    net = create_model("timm/test_nfnet", num_classes=CLASSES, image_size=SIDE)
    assert not isinstance(net, Staged)
    assert net.input_shape == (3, SIDE, SIDE)
    assert has_tap(net, "stages.1")
    assert build(net.spec).spec == net.spec


def test_weights_under_the_library_s_own_names(tmp_path, images):
    own = of_timm("test_vit", img_size=SIDE)().eval()
    torch.save({"state_dict": {f"module.{key}": held for key, held in own.state_dict().items()}}, tmp_path / "net.pth")
    net = create_model("timm/test_vit", num_classes=CLASSES, image_size=SIDE, weights=tmp_path / "net.pth").eval()
    torch.testing.assert_close(net(images), own(images))
    other = of_timm("test_vit", img_size=SIDE)()
    other.load_state_dict(native_state(net))


def test_weights_of_another_architecture_name_their_keys(tmp_path):
    torch.save(of_timm("test_convnext")().state_dict(), tmp_path / "net.pth")
    with pytest.raises(
        AttarError, match=r"not of this LibraryStaged: \d+ missing \(first .*unexpected \(first 'stem.0"
    ):
        create_model("timm/test_resnet", num_classes=CLASSES, weights=tmp_path / "net.pth")


def test_other_classes_are_a_student_s_start_and_no_teacher(tmp_path, images):
    own = timm.create_model("test_resnet", num_classes=11)
    torch.save(own.state_dict(), tmp_path / "net.pth")
    make = partial(create_model, "timm/test_resnet", CLASSES, image_size=SIDE, weights=tmp_path / "net.pth")
    with pytest.raises(AttarError, match=r"is of 11 classes in .*net.pth, the LibraryStaged has 7"):
        make()
    with pytest.warns(UserWarning, match=r"has 11 classes, not 7: the classifier 'linear' begins anew"):
        net = make(head="fresh")
    assert torch.equal(native_state(net)["layer1.0.conv1.weight"], own.layer1[0].conv1.weight)
    assert net.classifier.out_features == CLASSES
    with pytest.raises(AttarError, match="unknown head 'new'"):
        fit(net, net.state_dict(), "here", "new")


def test_load_weights_takes_both_names(tmp_path):
    net = create_model("timm/test_resnet", num_classes=CLASSES)
    for state in (net.state_dict(), native_state(net)):
        torch.save(state, tmp_path / "net.pth")
        other = create_model("timm/test_resnet", num_classes=CLASSES)
        load_weights(other, tmp_path / "net.pth")
        assert torch.equal(other.linear.weight, net.linear.weight)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create_model("timm/resnt18"), "unknown network 'timm/resnt18'; did you mean 'timm/resnet18'"),
        (lambda: model_info("torchvision/vit_b_17"), "unknown network .*did you mean 'torchvision/vit_b_1"),
        (lambda: create_model("efficientnet_lite7"), "did you mean 'efficientnet_lite[012]'"),
        (lambda: create_model("timm/test_resnet", depth=3), "timm/test_resnet cannot be made .*'depth': 3.*unexpected"),
        (
            lambda: create_model("timm/vgg11", image_size=8, mlp_ratio=0.02),
            "does not take images of 8x8: .*input_size=",
        ),
        (
            lambda: create_model("timm/test_vit", image_size=72),
            "does not take images of 72x72: .*divisible.*; give student.options.input",
        ),
        (lambda: create_model("timm/test_vit", image_size=0), "image_size is 0; give a positive number"),
    ],
)
def test_mistakes_are_answered(call, message):
    with pytest.raises(AttarError, match=message):
        call()


def test_libraries_are_listed_when_asked():
    assert "timm/test_vit" in list_models("timm/test_*")
    assert set(list_models("torchvision/vit_b_*")) == {"torchvision/vit_b_16", "torchvision/vit_b_32"}
    assert list_models("efficientnet_lite*") == [f"efficientnet_lite{number}" for number in range(3)]
    assert not [name for name in list_models() if "/" in name]
    assert model_info("timm/resnet18").options == ["input_size"]
