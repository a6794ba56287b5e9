"""Networks as people bring them: plain registered modules, kept activations, tuples, one sample, loading options."""

import pytest
import torch
from torch import nn

from attar.batch import Batch
from attar.conformance import check
from attar.deploy import load, save
from attar.errors import AttarError
from attar.methods import create_method
from attar.models import build, create_model, register_model
from attar.models.copying import copied
from attar.models.registry import MODELS


class Small(nn.Module):
    """A classifier that keeps an activation, shares a module, and returns what `pack` makes of its logits."""

    def __init__(self, num_classes=4, in_channels=1, pack=None):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.again = self.conv if in_channels == 8 else nn.Conv2d(8, 8, 3, padding=1)
        self.same = self.again
        self.head = nn.Linear(8, num_classes)
        self.pack = pack

    def forward(self, images):
        self.feat = self.same(self.again(self.conv(images).relu()).relu()).mean((2, 3))
        logits = self.head(self.feat)
        return logits if self.pack is None else self.pack(logits, self.feat)


@pytest.fixture
def registered():
    register_model("small_plain", family="own", description="a plain module", build=Small)
    yield "small_plain"
    del MODELS._entered["small_plain"]


def batch(count=4):
    return Batch(torch.randn(count, 1, 8, 8), torch.arange(count))


def test_a_registered_plain_module_is_made_and_rebuilt(registered):
    net = create_model(registered, num_classes=4, in_channels=1, image_size=8)
    assert net.input_shape == (1, 8, 8)
    again = build(net.spec)
    again.load_state_dict(net.state_dict())
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(again(images), net(images))


@pytest.mark.parametrize("pack", [None, lambda logits, feat: (logits, feat), lambda logits, feat: {"logits": logits}])
def test_networks_that_keep_activations_or_return_more_than_logits(pack):
    method = create_method("kd", teacher=Small(pack=pack), student=Small(pack=pack)).train()
    check(method, batch())
    method(batch().inputs, batch().labels)["total"].backward()
    again = copied(method)
    assert torch.equal(again.student.module.head.weight, method.student.module.head.weight)


def test_one_sample_under_batch_norm_is_one_line():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    method = create_method("supervised", student=net).train()
    for call in (lambda: check(method, batch(1)), lambda: method(batch(1).inputs, batch(1).labels)):
        with pytest.raises(AttarError, match=r"batch norm cannot train on a batch of 1 .*batch_size=2 or more"):
            call()


@pytest.mark.parametrize("option", ["pretrained", "checkpoint_path", "pretrained_cfg", "weights_backbone", "cache_dir"])
def test_an_option_that_loads_or_fetches_is_refused(option):
    pytest.importorskip("timm")
    spec = {"kind": "library", "model": "timm/resnet18", "num_classes": 4, "in_channels": 3, "image_size": 32}
    with pytest.raises(AttarError, match=f"the option '{option}' loads or fetches files; give teacher.weights="):
        build({**spec, option: "https://example.org/x.pth"})


def test_an_unused_auxiliary_head_is_named_with_its_remedy():
    class Auxiliary(Small):
        def __init__(self):
            super().__init__()
            self.aux1 = nn.Linear(8, 4)

    with pytest.raises(AttarError, match=r"'student.module.aux1.weight'.*student.options.aux_logits=false"):
        check(create_method("supervised", student=Auxiliary()), batch())


def test_a_compiled_network_is_saved_under_its_own_keys(tmp_path):
    net = create_model("resnet8", num_classes=4, in_channels=1, image_size=8)
    save(torch.compile(net), tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in again.state_dict().items())
