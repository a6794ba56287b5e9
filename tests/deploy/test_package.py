"""A network as two files, and every way in which they can be wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from attar.deploy import load, load_card, save
from attar.errors import AttarError
from attar.models import create_model


@pytest.fixture
def net():
    return create_model("resnet8", num_classes=4, in_channels=1, image_size=8, widths=(4, 8, 8)).eval()


@pytest.fixture
def file(net, tmp_path):
    return save(net, tmp_path / "run" / "student.safetensors", classes=["a", "b", "c", "d"])


def test_it_comes_back_equal_by_file_and_by_folder(net, file):
    images = torch.randn(2, 1, 8, 8)
    for place in (file, file.parent, str(file)):
        again = load(place)
        assert not again.training
        assert torch.equal(again(images), net(images))


def test_plain_torch_can_read_it(net, file):
    again = create_model("resnet8", num_classes=4, in_channels=1, image_size=8, widths=(4, 8, 8)).eval()
    again.load_state_dict(load_file(file))
    assert torch.equal(again(torch.ones(1, 1, 8, 8)), net(torch.ones(1, 1, 8, 8)))


def test_the_card_says_what_it_is(file):
    card = load_card(file)
    assert card["spec"] == {
        "name": "resnet8", "num_classes": 4, "in_channels": 1, "image_size": 8, "widths": [4, 8, 8],
    }  # fmt: skip
    assert card["classes"] == ["a", "b", "c", "d"]


def test_channels_last_and_tied_weights_are_saved_whole(tmp_path):
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)).to(memory_format=torch.channels_last)
    net[1].weight = net[0].weight
    state = load_file(save(net, tmp_path / "net.safetensors"))
    assert torch.equal(state["0.weight"], net[0].weight)
    assert torch.equal(state["1.weight"], net[0].weight)
    with pytest.raises(AttarError, match="names no network"):
        load(tmp_path / "net.safetensors")


def test_missing_files(file, tmp_path):
    with pytest.raises(AttarError, match=r"none does not exist; give a run's folder"):
        load(tmp_path / "none")
    file.with_suffix(".json").unlink()
    with pytest.raises(AttarError, match=r"student\.json is missing; it is needed to rebuild"):
        load(file)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "names no network"),
        ('{"spec": "resnet8"}', "names no network"),
        ('{"spec": {"name": "resnet9"}}', "unknown network 'resnet9'"),
        ('{"spec": {"kind": "projekted"}}', "did you mean 'projected'"),
        ('{"spec": {"name": "resnet14", "num_classes": 4}}', "is not of this ResNet"),
        ('{"spec": {"name": "resnet8", "num_classes": 5, "in_channels": 1, "widths": [4, 8, 8]}}', "'fc.weight' is"),
    ],
)
def test_a_card_that_is_wrong(file, card, message):
    file.with_suffix(".json").write_text(card)
    with pytest.raises(AttarError, match=message):
        load(file)


def test_damaged_weights(file):
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AttarError, match=r"cannot read .*student\.safetensors as weights"):
        load(file)


def test_a_card_is_plain_json(file):
    assert json.loads(file.with_suffix(".json").read_text())["attar"] == 1


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(AttarError, match=r"cannot write .*net\.safetensors: .*make room"):
            save(nn.Linear(100, 100), tmp_path / "net.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
