"""Layers by path, in any network, for the methods that compare features."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

import attar
from attar import losses
from attar.batch import Batch
from attar.conformance import check
from attar.errors import AttarError
from attar.models import as_staged, observe
from attar.models.libraries.imports import import_timm, import_transformers
from attar.models.surgery.layouts import as_map, as_vector
from attar.recipe import read_recipe

METHODS = ("at", "nst", "sp", "vid", "fitnet", "rkd", "pkt", "cc")
MAPS = ("at", "nst", "vid")


class Convolutions(nn.Module):
    """A network that no registry has seen."""

    input_shape = (3, 16, 16)

    def __init__(self, width):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(2 * width, 6)

    def forward(self, images):
        return self.head(self.layer2(self.layer1(images)).mean((2, 3)))


class Patches(nn.Module):
    """A transformer of two blocks with a class token; a block gives a tuple, as those of transformers do."""

    input_shape = (3, 16, 16)

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.mix = nn.Linear(width, width)

        def forward(self, tokens):
            return (tokens + self.mix(tokens).tanh(), None)

    def __init__(self, width=12):
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(self.Block(width) for _ in range(2))
        self.head = nn.Linear(width, 6)

    def forward(self, images):
        tokens = self.embed(images).flatten(2).mT
        tokens = torch.cat([self.token.expand(len(images), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)[0]
        return self.head(tokens[:, 0])


@pytest.fixture
def batch():
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.tensor([0, 1, 2, 3]), torch.arange(4), epochs=2)


@pytest.fixture
def nets():
    torch.manual_seed(0)
    return {"teacher": Patches(), "student": Convolutions(4)}


@pytest.mark.parametrize("name", METHODS)
def test_a_convolution_learns_from_a_transformer(name, nets, batch):
    method = attar.create_method(name, **nets, layers={"student.layer2": "teacher.blocks.1"})
    method.setup(batch.labels)
    check(method, batch)
    assert any("layer2" in edge.key or "embedding" in edge.key for edge in method.edges)


@pytest.mark.parametrize(
    ("name", "loss"), [("at", losses.at), ("nst", losses.nst), ("sp", losses.sp), ("pkt", losses.pkt)]
)
def test_they_compare_these_layers(name, loss, nets, batch):
    method = attar.create_method(name, **nets, layers={"student.layer1": "teacher.blocks.0"}).eval()
    own = observe(nets["student"], batch.inputs, ["layer1"]).tap("layer1")
    theirs = observe(nets["teacher"], batch.inputs, ["blocks.0"]).tap("blocks.0")
    if name == "pkt":
        own, theirs = own.mean((2, 3)), theirs.mean(1)
    elif name != "sp":
        theirs = theirs[:, 1:].mT.unflatten(2, (4, 4))
    found = method.batch_losses(batch)["teacher.blocks.0->student.layer1"]
    torch.testing.assert_close(found, loss(own, theirs))


def test_a_regressor_is_chosen_from_the_shapes(nets):
    layers = {"student.layer2": "teacher.blocks.1", "student.layer1": "teacher.head"}
    to_map, to_vector = attar.create_method("fitnet", **nets, layers=layers).regressors
    assert to_map(torch.zeros(2, 8, 8, 8)).shape == (2, 12, 4, 4)
    assert to_vector(torch.zeros(2, 4, 16, 16)).shape == (2, 6)


def test_the_stages_by_name_are_the_method_without_layers(batch):
    nets = {"teacher": attar.create_model("resnet14", 6), "student": attar.create_model("resnet8", 6)}
    stages = {f"student.stage{n}": f"teacher.stage{n}" for n in (1, 2, 3)}
    usual, named = (attar.create_method("at", **nets, layers=layers).eval() for layers in (None, stages))
    assert usual.batch_losses(batch).total == named.batch_losses(batch).total


@pytest.mark.parametrize("layers", [{"student.layer2": "teacher.layer2.1"}, {"student": {"layer2": "teacher.layer2"}}])
def test_a_stage_may_be_named_by_its_module_and_a_key_taken_apart_at_its_dots(layers):
    nets = {"teacher": attar.create_model("resnet14", 6, image_size=16), "student": attar.create_model("resnet8", 6)}
    method = attar.create_method("at", **nets, layers=layers)
    assert [edge.key for edge in method.edges][1:] == ["teacher.stage2->student.stage2"]
    assert method.losses(torch.randn(2, 3, 16, 16), torch.arange(2)).total.isfinite()


def test_unknown_layers_are_answered_with_near_ones(nets):
    with pytest.raises(AttarError, match="the student has no layer 'layer3'; near: layer2, layer1"):
        attar.create_method("at", **nets, layers={"student.layer3": "teacher.blocks.1"})
    with pytest.raises(AttarError, match="the teacher has no layer 'zzz'; it has: pooled, embed, blocks, head"):
        attar.create_method("at", **nets, layers={"student.layer2": "teacher.zzz"})
    with pytest.raises(AttarError, match=r"'layer2': expected student\.PATH"):
        attar.create_method("at", **nets, layers={"layer2": "teacher.blocks.1"})
    with pytest.raises(AttarError, match="layers: expected"):
        attar.create_method("at", **nets, layers="layer2")
    layers = {"student.layer1": "teacher.blocks.0", "student.layer2": "teacher.blocks.1"}
    with pytest.raises(AttarError, match="compares one pair of layers, got 2"):
        attar.create_method("cc", **nets, layers=layers)


@pytest.mark.parametrize("name", MAPS)
def test_a_vector_is_no_map(name, nets, batch):
    with pytest.raises(AttarError, match=r"shape \(\d+, \d+\) is no map"):
        attar.create_method(name, **nets, layers={"student.head": "teacher.head"}).batch_losses(batch)


def test_layouts():
    tokens = torch.arange(17 * 5.0).view(1, 17, 5)
    assert torch.equal(as_map(tokens)[0, :, 1, 2], tokens[0, 1 + 6])
    swin = torch.arange(4 * 4 * 5.0).view(1, 4, 4, 5)
    assert torch.equal(as_map(swin)[0, :, 1, 2], swin[0, 1, 2])
    assert torch.equal(as_vector(tokens), tokens.mean(1))
    with pytest.raises(AttarError, match="no map"):
        as_map(torch.zeros(1, 35, 5))  # 25 patches would leave 10 tokens


def test_recipes_name_them():
    expected = {"student.layer2": "teacher.blocks.5"}
    recipe = read_recipe(overrides=["method=at", "method.layers={student.layer2: teacher.blocks.5}"])
    assert recipe.method.options["layers"] == expected


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize("staged", [False, True])
def test_a_vit_of_timm(staged, batch):
    vit = import_timm().models.vision_transformer.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=12, depth=4, num_heads=2, num_classes=6
    )
    vit.eval()
    expected = observe(vit, batch.inputs, ["blocks.1"]).tap("blocks.1")
    teacher = as_staged(vit) if staged else vit
    layers = {"student.layer2": "teacher.blocks.1"}
    method = attar.create_method(
        "fitnet", teacher=teacher, student=Convolutions(4), layers=layers, image_shape=(3, 16, 16)
    )
    check(method, batch)
    torch.testing.assert_close(observe(teacher, batch.inputs, ["blocks.1"]).tap("blocks.1"), expected)
    with pytest.raises(AttarError, match="near: blocks"):
        attar.create_method(
            "at", teacher=teacher, student=Convolutions(4), layers={"student.layer2": "teacher.blocks.9"}
        )


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
def test_a_vit_of_transformers(batch):
    transformers = import_transformers()
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(**size, image_size=16, patch_size=8, num_labels=6)
    teacher = transformers.ViTForImageClassification(config)
    (path,) = [name for name, _ in teacher.named_modules() if name.endswith(("layer.1", "layers.1"))]
    layers = {"student.layer2": f"teacher.{path}"}
    method = attar.create_method(
        "fitnet", teacher=teacher, student=Convolutions(4), layers=layers, image_shape=(3, 16, 16)
    )
    check(method, batch)


@pytest.mark.parametrize("name", ["vid", "fitnet"])
def test_a_stage_as_high_as_it_has_channels_is_no_map_of_another_layout(name):
    """Of images of 16 x 24 the first stage of 16 channels is (16, 16, 24)."""
    nets = {
        "teacher": attar.create_model("resnet14", num_classes=4),
        "student": attar.create_model("resnet8", num_classes=4),
    }
    own = {"stage": 1} if name == "fitnet" else {}
    method = attar.create_method(name, **nets, **own, image_shape=(3, 16, 24))
    check(method, Batch(torch.randn(4, 3, 16, 24), torch.arange(4)))
