"""Multi-branch blocks and their exact merge; `test_oracleN_...` are the numbered oracles of RSD's specification."""

import copy
import json
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attar.errors import AttarError
from attar.models import MultiBranch, build, create_model, dropping, load_weights, merge, multi_branch
from attar.models.surgery.folding import folded, units
from attar.models.surgery.reparam import blocks, qualifies
from attar.models.zoo.resnet import Bottleneck, ResNet

FAMILIES = [
    "resnet8",
    "wrn_16_1",
    "vgg8",
    "mobilenetv2",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet8x4", "shufflenetv1", "shufflenetv2")),
]


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Norms that have seen something, and biases: a fresh norm is nearly the identity."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    return net


def block_of(side: int = 3, stride: int = 1, groups: int = 1, norm: bool = True, dtype=torch.float64) -> MultiBranch:
    torch.manual_seed(1)
    conv = nn.Conv2d(8, 12, side, stride, padding=side // 2, groups=groups, bias=False)
    block = MultiBranch(conv, nn.BatchNorm2d(12, eps=1e-3) if norm else None)
    block = randomised(block.double()).eval()
    for weight in (conv.weight for conv in block.modules() if isinstance(conv, nn.Conv2d)):
        nn.init.normal_(weight, 0, 0.2)  # in float64, so that a detour through float32 would show
    return block.to(dtype)


def by_hand(block: MultiBranch, x: torch.Tensor, number: int, training: bool) -> torch.Tensor:
    """One branch, from its tensors alone."""
    conv, *norm = block.branches[number]
    high, wide = conv.kernel_size
    y = F.conv2d(
        F.pad(x, (wide // 2, wide // 2, high // 2, high // 2)), conv.weight, conv.bias, conv.stride, 0, 1, conv.groups
    )
    if not norm:
        return y
    mean, var = (
        (y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)) if training else (norm[0].running_mean, norm[0].running_var)
    )
    shaped = [t.view(-1, 1, 1) for t in (mean, var, norm[0].weight, norm[0].bias)]
    return (y - shaped[0]) / (shaped[1] + norm[0].eps).sqrt() * shaped[2] + shaped[3]


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("size", [(9, 9), (8, 8), (7, 10)])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [3, 5])
def test_oracle1_a_merged_block_is_the_block(side, stride, groups, size, norm):
    block, x = block_of(side, stride, groups, norm), torch.randn(2, 8, *size, dtype=torch.float64)
    expected = sum(by_hand(block, x, number, training=False) for number in range(5))
    for conv, module in ((block, "block"), (block.merged(), "merged")):
        assert (conv(x) - expected).abs().max() < 1e-10, module
    block, x = block.float(), x.float()
    scale = expected.abs().max()
    assert (block.merged()(x) - block(x)).abs().max() / scale < 1e-5


def test_oracle1_depthwise():
    conv = nn.Conv2d(8, 8, 3, 2, padding=1, groups=8, bias=False)
    block = randomised(MultiBranch(conv, nn.BatchNorm2d(8))).double().eval()
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    assert (block.merged()(x) - block(x)).abs().max() < 1e-10


@pytest.mark.parametrize("stride", [1, 2])
def test_oracle1_the_geometry_stays(stride):
    conv = nn.Conv2d(8, 12, 5, stride, padding=2, groups=4)
    block = MultiBranch(conv)
    for number, shape in enumerate([(5, 5), (5, 5), (5, 5), (5, 1), (1, 5)]):
        assert block.branches[number][0].weight.shape == (12, 2, *shape)
    assert str(block.merged()) == str(conv)


@pytest.mark.parametrize("name", FAMILIES)
def test_oracle1_whole_networks(name):
    torch.manual_seed(0)
    net = randomised(multi_branch(create_model(name, num_classes=10, image_size=16))).eval()
    images = torch.randn(8, 3, 16, 16)
    with torch.no_grad():
        plain, whole = merge(net)(images), net(images)
        assert (plain - whole).abs().max() / whole.abs().max() < 1e-4
        assert torch.equal(plain.argmax(1), whole.argmax(1))
        exact, images = net.double(), images.double()
        assert (merge(exact)(images) - exact(images)).abs().max() / whole.abs().max() < 1e-10


def test_oracle1_after_training_steps():
    torch.manual_seed(0)
    net = multi_branch(create_model("resnet8", num_classes=5, image_size=8))
    learner = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(5):
        learner.zero_grad()
        F.cross_entropy(net(torch.randn(16, 3, 8, 8)), torch.randint(5, (16,))).backward()
        learner.step()
    images = torch.randn(8, 3, 8, 8)
    torch.testing.assert_close(merge(net).eval()(images), net.eval()(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_oracle2_the_merged_network_rebuilds_from_its_spec(name, tmp_path):
    net = randomised(multi_branch(create_model(name, num_classes=10, image_size=16)))
    merged, images = merge(net).eval(), torch.randn(2, 3, 16, 16)
    assert merged.spec["kind"] == "merged"
    again = build(json.loads(json.dumps(merged.spec)))
    shapes = [{key: tensor.shape for key, tensor in one.state_dict().items()} for one in (merged, again)]
    assert shapes[0] == shapes[1]
    torch.save(merged.state_dict(), tmp_path / "net.pth")
    load_weights(again, tmp_path / "net.pth")
    assert torch.equal(again.eval()(images), merged(images))
    branched = build(json.loads(json.dumps(net.spec)))
    branched.load_state_dict(net.state_dict())
    assert torch.equal(branched.eval()(images), net.eval()(images))


def test_oracle2_the_merged_network_has_the_plain_one_s_layers():
    plain = create_model("resnet20")
    merged = merge(multi_branch(plain))
    kept = {key for key in plain.state_dict() if ".bn" not in key and not key.startswith("bn")}
    biases = {key.replace(".weight", ".bias") for key in kept if ".conv" in key or key.startswith("conv1")}
    assert set(merged.state_dict()) == kept | biases
    for key in kept:
        assert merged.state_dict()[key].shape == plain.state_dict()[key].shape
    assert not blocks(merged)


def test_oracle2_parameter_counts():
    resnet110 = ResNet(Bottleneck, (12, 12, 12), (16, 32, 64), stem_width=16)
    table = {
        (472_756, 1_711_796, 471_620): create_model("resnet32"),
        (1_170_868, 2_731_188, 1_162_788): resnet110,
    }
    for counts, net in table.items():
        branched = multi_branch(net)
        assert (count(net), count(branched), count(merge(branched))) == counts


@pytest.mark.parametrize("name", ["vgg8", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vgg16", "vgg19"))])
def test_oracle2_counts_of_vgg_by_formula(name):
    with torch.device("meta"):
        net = create_model(name)
    pairs = [(conv.in_channels, conv.out_channels) for conv in net.modules() if isinstance(conv, nn.Conv2d)]
    head = count(net.fc)
    branched = multi_branch(net)
    # The zoo's VGG has biases before its norms.
    assert count(net) == head + sum(9 * a * b + 3 * b for a, b in pairs)
    assert count(branched) == head + sum(33 * a * b + 10 * b for a, b in pairs)
    assert count(merge(branched)) == head + sum(9 * a * b + b for a, b in pairs)


def test_oracle2_counts_without_norms():
    net = create_model("wrn_16_2")
    pairs = [
        (c.in_channels, c.out_channels) for c in net.modules() if isinstance(c, nn.Conv2d) and c.kernel_size == (3, 3)
    ]
    branched = multi_branch(net)
    assert count(branched) == count(net) + sum(24 * a * b + 5 * b for a, b in pairs)
    assert count(merge(branched)) == count(net) + sum(b for _, b in pairs)


def test_oracle2_merging_twice_is_refused():
    merged = merge(multi_branch(create_model("resnet8")))
    for net in (merged, create_model("resnet8")):
        with pytest.raises(AttarError, match="no multi-branch block"):
            merge(net)
    with pytest.raises(AttarError, match="already"):
        multi_branch(multi_branch(create_model("resnet8")))


@pytest.mark.parametrize("training", [True, False])
def test_oracle2_merging_leaves_the_network_alone(training):
    net = randomised(multi_branch(create_model("resnet8"))).train(training)
    net.layer1.eval()
    modes = {name: module.training for name, module in net.named_modules()}
    state = copy.deepcopy(net.state_dict())
    net.requires_grad_(False)
    merged = merge(net)
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert merged.training == training
    assert all(module.training == modes[name] for name, module in merged.named_modules())
    own = {tensor.data_ptr() for tensor in net.state_dict().values()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in merged.state_dict().values() if tensor.numel())


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("chosen", [[0], [3], [4], [0, 2], [1, 3, 4], [0, 1, 2, 3, 4]])
def test_oracle3_a_sub_network_is_its_own_merge(chosen, norm):
    block, x = block_of(stride=2, norm=norm), torch.randn(2, 8, 9, 7, dtype=torch.float64)
    keep = torch.zeros(1, 5, dtype=torch.float64)
    keep[0, chosen] = 1.0
    assert (block(x, keep) - block.merged(chosen)(x)).abs().max() < 1e-10


def test_oracle3_merges_add_up():
    block = block_of(side=5)
    first, second, whole = block.merged([0, 3]), block.merged([1, 2, 4]), block.merged()
    assert (first.weight + second.weight - whole.weight).abs().max() < 1e-10
    assert (first.bias + second.bias - whole.bias).abs().max() < 1e-10
    with pytest.raises(AttarError, match="at least one"):
        block.merged([])


@pytest.mark.parametrize("norm", [True, False])
def test_oracle4_given_masks(norm):
    block, x = block_of(norm=norm).train(), torch.randn(6, 8, 9, 9, dtype=torch.float64)
    mask = torch.randint(2, (6, 5)).double()
    expected = sum(
        mask[:, number].view(-1, 1, 1, 1) / 0.8 * by_hand(block, x, number, training=True) for number in range(5)
    )
    assert (block(x, mask / 0.8) - expected).abs().max() < 1e-10


def test_oracle4_a_dropped_branch_still_counts_its_statistics():
    block = block_of().train()
    before = [norm.running_mean.clone() for _, norm in block.branches]
    block(torch.randn(4, 8, 9, 9, dtype=torch.float64), torch.zeros(4, 5))
    assert not any(torch.equal(norm.running_mean, old) for (_, norm), old in zip(block.branches, before, strict=True))


def drawn(net: nn.Module, rate: float, rows: int, seed: int = 0) -> list[torch.Tensor]:
    """The factors that each block gets."""
    seen: list[torch.Tensor] = []

    def keep(module, inputs, options):
        seen.append(options.get("keep"))

    # Hooks run in the order they were made: this one sees what the context's gives.
    with dropping(net, rate, rows, torch.Generator().manual_seed(seed)):
        handles = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in blocks(net)]
        net(torch.randn(rows, 3, 8, 8))
    for handle in handles:
        handle.remove()
    return seen


def test_oracle4_drop_statistics():
    net = multi_branch(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)))
    factors = torch.stack(drawn(net, 0.2, 20_000))
    assert factors.shape == (2, 20_000, 5)
    assert set(factors.unique().tolist()) == {0.0, 1.25}
    # 200,000 draws: five standard deviations of the mean of m / 0.8.
    assert abs(factors.mean() - 1) < 5 * (0.25 / 200_000) ** 0.5
    flat = factors.permute(0, 2, 1).flatten(0, 1)
    correlation = torch.corrcoef(flat) - torch.eye(10)
    assert correlation.abs().max() < 0.04
    assert abs((factors == 0).all(2).float().mean() - 0.2**5) < 5e-4
    assert not torch.equal(factors[:, 0], factors[:, 1])


def test_oracle4_the_mean_over_masks_is_the_whole():
    block, x = block_of(), torch.randn(1, 8, 5, 5, dtype=torch.float64)
    keep = torch.empty(40_000, 5).bernoulli_(0.8, generator=torch.Generator().manual_seed(0)).double() / 0.8
    # A block is linear in its factors, so the mean over masks is the block of the mean mask; and that is the whole.
    mean = block(x, keep.mean(0, keepdim=True))
    torch.testing.assert_close(mean, block(x), atol=0.05, rtol=0.05)
    some = torch.cat([block(x, row[None]) for row in keep[:500]]).mean(0, keepdim=True)
    torch.testing.assert_close(some, block(x, keep[:500].mean(0, keepdim=True)), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("rate", "training"), [(0.0, True), (0.2, False), (0.9, False)])
def test_oracle4_no_rate_or_eval_is_the_whole_bitwise(rate, training):
    net = randomised(multi_branch(create_model("resnet8"))).train(training)
    images, generator = torch.randn(4, 3, 16, 16), torch.Generator().manual_seed(0)
    state = generator.get_state()
    whole = copy.deepcopy(net)(images)
    with dropping(net, rate, 4, generator):
        assert torch.equal(net(images), whole)
    assert torch.equal(generator.get_state(), state)


def test_dropping_leaves_nothing_behind():
    net, images = multi_branch(create_model("resnet8")).train(), torch.randn(4, 3, 16, 16)
    before = {name: set(vars(module)) for name, module in net.named_modules()}
    with dropping(net, 0.2, 4, torch.Generator()):
        net(images)
    with pytest.raises(RuntimeError), dropping(net, 0.2, 4, torch.Generator()):
        net(images[:3])
    assert not any(module._forward_pre_hooks or module._forward_pre_hooks_with_kwargs for module in net.modules())
    assert {name: set(vars(module)) for name, module in net.named_modules()} == before


def test_dropping_is_the_caller_s_alone():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    net, images, other = multi_branch(net).train(), torch.randn(4, 3, 8, 8), []
    whole = net(images)
    with dropping(net, 0.5, 4, torch.Generator().manual_seed(0)):
        thread = threading.Thread(target=lambda: other.append(net(images)))
        thread.start()
        thread.join()
        assert not torch.equal(net(images), whole)
    assert torch.equal(other[0], whole)


def test_one_row_drops_the_same_for_all_samples():
    torch.manual_seed(0)
    net = multi_branch(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))).train()
    image = torch.randn(1, 3, 8, 8).expand(16, -1, -1, -1)
    for rows, different in ((1, False), (16, True)):
        with dropping(net, 0.4, rows, torch.Generator().manual_seed(1)):
            out = net(image)
        assert (out.std(0).max() > 1e-3) == different


@pytest.mark.parametrize("duplicates", [1, 2, 4])
def test_duplicates(duplicates):
    net = randomised(multi_branch(create_model("resnet8"), duplicates)).eval()
    assert {len(block.branches) for block in blocks(net)} == {duplicates + 2}
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(merge(net)(images), net(images), atol=1e-4, rtol=1e-4)
    assert build(net.spec).state_dict().keys() == net.state_dict().keys()


@pytest.mark.parametrize(
    ("conv", "fits"),
    [
        (nn.Conv2d(3, 4, 3, padding=1), True),
        (nn.Conv2d(3, 4, 5, 2, padding=2), True),
        (nn.Conv2d(3, 4, 1), False),
        (nn.Conv2d(3, 4, 7, padding=3), False),
        (nn.Conv2d(3, 4, 4, padding=2), False),
        (nn.Conv2d(3, 4, (3, 1), padding=(1, 0)), False),
        (nn.Conv2d(3, 4, 3), False),
        (nn.Conv2d(3, 4, 3, padding=1, dilation=2), False),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), False),
    ],
)
def test_which_convolutions_have_branches(conv, fits):
    assert qualifies(conv) == fits
    if not fits:
        with pytest.raises(AttarError, match="cannot have branches"):
            MultiBranch(conv)
        with pytest.raises(AttarError, match="no padded 3x3 or 5x5"):
            multi_branch(nn.Sequential(conv))


def test_which_norms_belong_to_a_convolution():
    class PreActivated(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn1, self.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)
            self.bn2, self.conv2 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)

    class Normalised(nn.BatchNorm2d):
        """As timm's: with an activation inside."""

    class Activated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1), Normalised(4)

    assert [unit.norm_name for unit in units(PreActivated())] == [None, None]
    assert [unit.norm_name for unit in units(Activated())] == [None]
    assert [unit.norm_name for unit in units(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5)))] == [None]
    resnet = {f"{unit.path}.{unit.conv_name}": unit.norm_name for unit in units(create_model("resnet14"))}
    assert resnet[".conv1"] == "bn1"
    assert resnet["layer2.0.conv2"] == "bn2"
    assert resnet["layer2.0.downsample.0"] == "1"


def test_any_module_with_foreign_names():
    class Plain(nn.Module):
        """Laid out as torchvision's networks are."""

        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
            self.relu = nn.ReLU(inplace=True)
            self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 1, 1, groups=2, bias=False), nn.BatchNorm2d(8)
            self.fc = nn.Linear(8, 5)

        def forward(self, x):
            x = self.relu(self.bn1(self.conv1(x)))
            return self.fc(self.relu(self.bn2(self.conv2(x))).mean((2, 3)))

    net = randomised(multi_branch(Plain())).eval()
    merged, images = merge(net), torch.randn(4, 3, 15, 15)
    assert len(blocks(net)) == 1
    torch.testing.assert_close(merged(images), net(images), atol=1e-5, rtol=1e-5)
    assert set(merged.state_dict()) == {f"{n}.{k}" for n in ("conv1", "conv2", "fc") for k in ("weight", "bias")}


def test_the_plain_network_is_left_alone():
    net = create_model("resnet8")
    state = copy.deepcopy(net.state_dict())
    multi_branch(net)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert not blocks(net)
    assert net.spec["name"] == "resnet8"


def test_branches_are_drawn_independently():
    block = MultiBranch(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64, eps=1e-3, momentum=0.2))
    kernels = [conv.weight for conv, _ in block.branches]
    assert not torch.equal(kernels[0], kernels[1])
    for kernel in kernels:
        assert kernel.std().item() == pytest.approx((2 / (64 * kernel[0, 0].numel())) ** 0.5, rel=0.05)
    assert all((norm.eps, norm.momentum) == (1e-3, 0.2) for _, norm in block.branches)


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_norm(bias):
    conv, norm = nn.Conv2d(4, 6, 3, 2, padding=2, dilation=2, groups=2, bias=bias), nn.BatchNorm2d(6)
    conv, norm = conv.double(), randomised(norm).double().eval()
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    assert (folded(conv, norm)(x) - norm(conv(x))).abs().max() < 1e-10


def test_half_precision():
    block = block_of(dtype=torch.float32).train()
    x = torch.randn(4, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        out = block(x, torch.full((4, 5), 1.25))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), 1.25 * block(x), atol=0.1, rtol=0.1)
