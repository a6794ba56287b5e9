"""Minimum rate, layer-wise decay, random erasing and early stopping: what a recipe for transformers adds."""

import pytest
import torch
from torch import nn

from attar.data.transforms.erasing import erase
from attar.methods import create_method
from attar.models import create_model
from attar.recipe import OptimRecipe
from attar.train.loop import update
from attar.train.optim import optimiser
from attar.train.rate_factors import SCALE, layer_depths, scale_by_layer
from attar.train.schedules import learning_rate


@pytest.mark.parametrize("schedule", ["cosine", "linear", "rex"])
def test_a_schedule_falls_to_the_minimum(schedule):
    optim = OptimRecipe(lr=1.0, min_lr=0.1, schedule=schedule)
    rates = [learning_rate(optim, step, 1, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=2e-3)
    assert min(rates) >= 0.1


def test_without_a_minimum_rates_are_those_of_before():
    optim = OptimRecipe(lr=0.3, schedule="cosine")
    whole = [0.3 * ((1 + torch.cos(torch.tensor(step / 9 * torch.pi)).item()) / 2) for step in range(9)]
    assert [learning_rate(optim, step, 9, 1) for step in range(9)] == pytest.approx(whole, abs=1e-7)


class Blocks(nn.Module):
    """A patch embedding, three blocks and a classifier."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(2))
        self.embed = nn.Linear(2, 2)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2)) for _ in range(3))
        self.norm = nn.LayerNorm(2)
        self.fc = nn.Linear(2, 4)


def test_depths_follow_the_blocks():
    net = Blocks()
    named, depths = dict(net.named_parameters()), layer_depths(net)
    found = {name: depths[id(parameter)] for name, parameter in named.items()}
    assert found["token"] == found["embed.weight"] == 0
    assert [found[f"blocks.{n}.0.weight"] for n in range(3)] == [1, 3, 5]
    assert found["fc.bias"] == found["norm.weight"] == max(found.values())


def test_blocks_near_the_input_move_less():
    student = create_model("resnet8", 10, 3, 8)
    method = create_method("supervised", student=student)
    one = optimiser(method.trainable(), OptimRecipe(name="adamw", lr=0.1))
    scale_by_layer(one, method, 0.5)
    depths = layer_depths(student)
    for parameter in method.trainable():
        parameter.grad = torch.ones_like(parameter)
    before = {id(p): p.detach().clone() for p in method.trainable()}
    update(one, 0.1)
    last = max(depths.values())
    # AdamW's first step is the learning rate, whatever the gradient.
    for parameter in method.trainable():
        moved = (before[id(parameter)] * (1 - 5e-4 * 0.1 * 0.5 ** (last - depths[id(parameter)])) - parameter).abs()
        assert moved.mean().item() == pytest.approx(0.1 * 0.5 ** (last - depths[id(parameter)]), rel=1e-3)
    assert len({group[SCALE] for group in one.param_groups}) == len(set(depths.values()))
    assert sum(len(group["params"]) for group in one.param_groups) == len(method.trainable())


def test_erasing_covers_its_share_of_the_images():
    images = torch.randint(0, 256, (400, 3, 32, 32), dtype=torch.uint8)
    numbers = torch.rand(400, 5, generator=torch.Generator().manual_seed(0))
    erased = erase(images, numbers, 0.25)
    changed = (erased != images).any(1).flatten(1).float().mean(1)
    assert 0.2 < (changed > 0).float().mean() < 0.3
    assert torch.equal(changed > 0, numbers[:, 0] < 0.25)
    assert changed.max() < 0.36
    assert changed[changed > 0].mean() == pytest.approx(0.175, abs=0.03)
    assert torch.equal(erase(images, numbers, 0), images)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {"depth": 8, "embed_dim": 24, "num_heads": 3}),
        ("swin_tiny_patch4_window7_224", {"depths": (2, 1, 3, 1), "embed_dim": 12, "num_heads": (1, 2, 3, 3)}),
        ("convnext_atto", {"depths": (1, 2, 3, 1), "dims": (8, 8, 16, 16)}),
        ("regnetx_002", {}),
    ],
)
def test_a_library_networks_blocks_have_the_rates_of_timm(name, options):
    timm, optim = pytest.importorskip("timm"), pytest.importorskip("timm.optim")
    net = timm.create_model(name, num_classes=4, **options)
    groups = optim.param_groups_layer_decay(net, layer_decay=0.5)
    called = {id(parameter): name for name, parameter in net.named_parameters()}
    theirs = {called[id(parameter)]: group["lr_scale"] for group in groups for parameter in group["params"]}
    assert len(set(theirs.values())) > 7
    student = create_model(f"timm/{name}", 4, 3, 224, **options)
    one = torch.optim.SGD(student.parameters(), lr=1.0)
    scale_by_layer(one, create_method("supervised", student=student), 0.5)
    factors = {id(parameter): group[SCALE] for group in one.param_groups for parameter in group["params"]}
    found = {student.native[own]: factors[id(parameter)] for own, parameter in student.named_parameters()}
    # The norm behind the last block moves as the classifier does.
    assert found == {name: 1.0 if name.startswith("norm.") else factor for name, factor in theirs.items()}


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("vit_b_16", 12), ("swin_t", 15), ("mobilenet_v2", 17), ("regnet_x_400mf", 22)],
)
def test_every_block_of_torchvision_counts(name, blocks):
    pytest.importorskip("torchvision")
    student = create_model(f"torchvision/{name}", 4, 3, 224)
    depths = layer_depths(student)
    assert set(depths.values()) == set(range(blocks + 2))
    assert depths[id(student.linear.weight)] == blocks + 1
