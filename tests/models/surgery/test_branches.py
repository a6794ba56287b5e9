"""Bifurcation: the shapes of branches, what they share, and their gradients."""

import copy

import pytest
import torch
from torch import nn

from attar.errors import AttarError
from attar.models import Branch, Layout, Staged, bifurcate, create_model, default_branches

FAMILIES = ["resnet14", "resnet18", "resnet50", "wrn_16_1", "vgg11", "mobilenetv2", "shufflenetv1", "shufflenetv2"]
SMALL = ["resnet14", "wrn_16_1", "vgg11", "mobilenetv2", "shufflenetv1", "shufflenetv2"]


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def network(name):
    return create_model(name, num_classes=5, image_size=16)


def blocks(net):
    """Residual blocks, convolutions or whatever a family counts, by stage."""
    names = [name for name in net.layout.stages if name in dict(net.named_children())]
    return [sum(not isinstance(part, nn.MaxPool2d) for part in getattr(net, name)) for name in names]


class ByHand(Staged):
    """A staged network that is not of the zoo."""

    def __init__(self):
        super().__init__(Layout(stem=("first",), stages=("one", "two"), head=("fc",)))
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.one, self.two = (nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(2))
        self.fc = nn.Linear(4, 5)

    def stem(self, images):
        return self.first(images)


@pytest.mark.parametrize(
    ("ratio", "sizes"), [(0.5, [1_029_348, 792_932]), (0.2, [290_532, 202_084])], ids=["half", "one block"]
)
def test_oracle_8_sizes_of_resnet32(ratio, sizes):
    trunk = create_model("resnet32")
    net = bifurcate(trunk, default_branches(trunk, depth_ratio=ratio, replicas=1))
    assert count(net.trunk) == 472_756
    assert [count(branch) for branch in net.branches.values()] == sizes


@pytest.mark.parametrize("family", ["resnet32", "wrn_40_1", "vgg13", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
def test_oracle_8_branches_are_shallow_and_wide(family):
    trunk = network(family)
    net = bifurcate(trunk, default_branches(trunk, replicas=1)).eval()
    assert len({fork.stage for fork in net.forks.values()}) >= 2
    main, branches = net(torch.randn(2, 3, 16, 16))
    for name, printed in branches.items():
        stage = net.forks[name].stage
        path = blocks(trunk)[stage:]
        assert all(own <= theirs for own, theirs in zip(blocks(net.branches[name]), path, strict=True))
        assert sum(blocks(net.branches[name])) < sum(path)
        assert sorted(tap for tap in printed.taps if tap != "pooled") == [
            f"stage{number}" for number in range(stage + 1, len(trunk.stages) + 1)
        ]
        for tap in set(printed.taps) - {"pooled"}:
            assert printed.taps[tap].shape[2:] == main.taps[tap].shape[2:]
            assert printed.taps[tap].shape[1] == 2 * main.taps[tap].shape[1]


def test_oracle_8_the_part_before_a_fork_is_the_trunks():
    trunk = network("resnet14")
    net = bifurcate(trunk, default_branches(trunk))
    assert net.trunk is trunk
    own = {id(parameter) for branch in net.branches.values() for parameter in branch.parameters()}
    assert not own & {id(parameter) for parameter in trunk.parameters()}
    assert count(net) == count(trunk) + sum(count(branch) for branch in net.branches.values())
    assert not any("layer1" in name or name == "conv1.weight" for name in net.branches["branch2_1"].state_dict())
    _, branches = net(torch.randn(4, 3, 16, 16))
    branches["branch2_1"].logits.sum().backward()
    assert trunk.layer2[0].conv1.weight.grad is not None
    assert trunk.layer3[0].conv1.weight.grad is None


@pytest.mark.parametrize(
    "family", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet18", "resnet50"))]
)
def test_every_family_can_be_forked(family):
    trunk = network(family)
    net = bifurcate(trunk, default_branches(trunk, width_mult=1 if "50" in family else 2, replicas=1))
    assert len(net.branches) == len(trunk.stages) - 1
    main, branches = net(torch.randn(2, 3, 16, 16))
    assert all(printed.logits.shape == (2, 5) for printed in (main, *branches.values()))
    sum(printed.logits.square().sum() for printed in (main, *branches.values())).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("family", SMALL)
def test_the_trunk_says_what_it_says_alone(family):
    trunk, images = network(family).eval(), torch.randn(2, 3, 16, 16)
    alone = trunk(images)
    main, _ = bifurcate(trunk, default_branches(trunk, width_mult=1, replicas=1)).eval()(images)
    assert torch.equal(main.logits, alone)


def test_branches_are_initialised_as_their_family_and_differ():
    trunk = create_model("resnet32")
    net = bifurcate(trunk, default_branches(trunk))
    one, other = (net.branches[name].layer3[0].conv1.weight for name in ("branch1_1", "branch1_2"))
    assert not torch.equal(one, other)
    assert one.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("forks", [[1], [1, 1], [1, 2, 2]])
def test_oracle_9_divided_gradients(forks):
    torch.manual_seed(0)
    trunk = network("resnet14").double()
    plain = bifurcate(trunk, [Branch(stage, width_mult=1) for stage in forks]).double()
    divided = copy.deepcopy(plain)
    divided.ilr = True
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    gradients = {}
    for net in (plain, divided):
        main, branches = net(images)
        loss = sum(printed.logits.square().sum() for printed in (main, *branches.values()))
        loss.backward()
        gradients[net] = (loss, {name: p.grad for name, p in net.trunk.named_parameters()})
    (loss, whole), (same, part) = gradients[plain], gradients[divided]
    assert torch.equal(loss, same)
    assert torch.equal(whole["layer3.0.conv1.weight"], part["layer3.0.conv1.weight"])
    if 2 not in forks:
        assert torch.equal(whole["layer2.0.conv1.weight"], part["layer2.0.conv1.weight"])
        for name in ("conv1.weight", "layer1.0.conv1.weight"):
            torch.testing.assert_close(whole[name] / (len(forks) + 1), part[name])
    else:
        torch.testing.assert_close(whole["layer2.1.conv2.weight"] / 3, part["layer2.1.conv2.weight"])


def test_a_tree_of_branches():
    """Reading R3: one, two, four copies of later stages."""
    trunk = network("resnet14")
    same = {"depth_ratio": 1, "width_mult": 1}
    tree = [{"stage": 1, "name": "twin", **same}, {"stage": 2, **same}, {"stage": 2, "parent": "twin", **same}]
    net = bifurcate(trunk, tree)
    assert [count(branch) for branch in net.branches.values()] == [
        count(trunk.without("stem", "stage1")), *[count(trunk.without("stem", "stage1", "stage2"))] * 2
    ]  # fmt: skip
    _, branches = net(torch.randn(4, 3, 16, 16))
    branches["branch2_2"].logits.sum().backward()
    assert net.branches["twin"].layer2[0].conv1.weight.grad is not None
    assert net.branches["twin"].layer3[0].conv1.weight.grad is None
    assert trunk.layer2[0].conv1.weight.grad is None
    assert trunk.layer1[0].conv1.weight.grad is not None


def test_a_branch_of_a_wide_branch_reads_wide_maps():
    trunk = network("resnet14")
    net = bifurcate(trunk, [Branch(1, name="wide", width_mult=3), Branch(2, parent="wide", width_mult=1)])
    assert net.branches["branch2_1"].layer3[0].conv1.in_channels == 96
    assert net(torch.randn(2, 3, 16, 16))[1]["branch2_1"].logits.shape == (2, 5)


def test_a_network_made_by_hand_has_branches_like_itself():
    net = bifurcate(ByHand(), [Branch(1, depth_ratio=1, width_mult=1)])
    assert list(net.branches["branch1_1"].state_dict()) == ["two.0.weight", "two.0.bias", "fc.weight", "fc.bias"]
    assert net(torch.randn(2, 3, 8, 8))[1]["branch1_1"].logits.shape == (2, 5)
    with pytest.raises(AttarError, match="can only branch like itself"):
        bifurcate(ByHand(), [Branch(1)])


@pytest.mark.parametrize(
    ("branches", "message"),
    [([Branch(3)], "stages 1..2"), ([Branch(0)], "stages 1..2"), ([Branch(1, depth_ratio=0)], "above 0"),
     ([{"depth_ratio": 1}], "has no stage"), ([{"stage": 1, "width": 2}], "did you mean 'width_mult'"),
     ([Branch(1, name="a"), Branch(1, name="a")], "is taken"), ([Branch(1, name="a.b")], "not one word"),
     ([Branch(2, parent="a"), Branch(1, name="a")], "unknown parent"),
     ([Branch(2, name="a"), Branch(2, parent="a")], "fork it later"),
     ([Branch(1, width_mult=0.01)], "change width_mult")],
)  # fmt: skip
def test_mistakes(branches, message):
    with pytest.raises(AttarError, match=message):
        bifurcate(network("resnet14"), branches)


def test_widths_that_a_family_cannot_group():
    with pytest.raises(AttarError, match="change width_mult"):
        bifurcate(network("shufflenetv1"), [Branch(1, width_mult=1.01)])
