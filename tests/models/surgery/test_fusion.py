"""UniKD's fusion and distribution prediction: the oracles of its specification that concern these modules alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.errors import AttarError
from attar.models import AFF, FDP
from attar.models.surgery.fusion import mixed

SHAPES = [(64, 32, 32), (128, 16, 16), (256, 8, 8), (256,)]


def maps(seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """The levels of ResNet-8x4, shallow to deep."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, *shape, generator=generator, dtype=dtype) for shape in SHAPES]


def fusion(gate: str = "convex", **options: object) -> AFF:
    torch.manual_seed(1)
    return AFF([shape[0] for shape in SHAPES], mid=256, out_channels=64, gate=gate, **options)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_oracle_2_a_convex_gate_stays_between_its_inputs():
    shallow, deep, gate = torch.randn(3, 2, 5, 4, 4), torch.randn(3, 2, 5, 4, 4), torch.randn(3, 2, 1, 4, 4)
    for x, y, logits in zip(shallow, deep, gate, strict=True):
        out = mixed(x, y, logits)
        assert (out >= torch.minimum(x, y) - 1e-6).all()
        assert (out <= torch.maximum(x, y) + 1e-6).all()
        torch.testing.assert_close(mixed(x, x, logits), x)
        torch.testing.assert_close(mixed(x, y, torch.full_like(logits, 50.0)), x)
        torch.testing.assert_close(mixed(x, y, torch.full_like(logits, -50.0)), y)


def test_oracle_2_dual_gates_at_zero_give_half_the_sum():
    x, y = torch.randn(2, 5, 4, 4), torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(mixed(x, y, torch.zeros(2, 2, 4, 4)), (x + y) / 2)
    both = torch.tensor([50.0, 50.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(mixed(x, y, both), x + y)


@pytest.mark.parametrize("gate", ["convex", "dual"])
def test_oracle_3_every_level_changes_the_fused_map(gate):
    fuse = fusion(gate)
    with torch.no_grad():
        before = fuse(maps())
        assert before.shape == (2, 64, 32, 32)
        assert fuse.out.in_channels == 256
        for level in range(4):
            changed = maps()
            changed[level] = changed[level] + 1
            assert not torch.allclose(fuse(changed), before)


@pytest.mark.parametrize("gate", ["convex", "dual"])
def test_the_fused_map_equals_the_recursion_by_hand(gate):
    fuse = fusion(gate, size=(16, 16)).double()
    levels = maps(dtype=torch.float64)
    embedded = [
        torch.einsum("mc,bchw->bmhw", conv.weight[:, :, 0, 0], x if x.ndim == 4 else x[:, :, None, None]).clamp(min=0)
        for conv, x in zip(fuse.embed, levels, strict=True)
    ]
    fused = embedded[3]
    for number in (2, 1, 0):
        shallow = embedded[number]
        factor = shallow.shape[-1] // fused.shape[-1]
        deep = fused.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
        kernel, bias = fuse.gates[number].weight[:, :, 0, 0], fuse.gates[number].bias
        logits = torch.einsum("gm,bmhw->bghw", kernel, torch.cat([shallow, deep], 1)) + bias[:, None, None]
        z = 1 / (1 + (-logits).exp())
        fused = z[:, :1] * shallow + (z[:, 1:] if gate == "dual" else 1 - z[:, :1]) * deep
    expected = F.relu(F.conv2d(fused[:, :, ::2, ::2], fuse.out.weight, padding=1))
    torch.testing.assert_close(fuse(levels), expected)


def test_a_single_level_needs_no_gate():
    fuse = AFF([8], mid=4, out_channels=6)
    assert fuse([torch.randn(2, 8, 5, 5)]).shape == (2, 6, 5, 5)
    assert count(fuse) == 8 * 4 + 9 * 4 * 6


def test_oracle_9_parameters_of_the_fusion():
    assert count(fusion("dual")) == 330_758
    assert count(fusion("convex")) == 330_758 - 3 * 513


def test_every_parameter_learns():
    fuse, read = fusion("dual"), FDP(64, 10)
    sum(part.square().sum() for part in read(fuse(maps()))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in [*fuse.parameters(), *read.parameters()])


def test_oracle_4_a_shuffle_of_space_changes_nothing():
    read, x = FDP(64, 100).double(), torch.randn(3, 64, 7, 5, dtype=torch.float64)
    order = torch.randperm(35)
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    for before, after in zip(read(x), read(shuffled), strict=True):
        torch.testing.assert_close(before, after)


@pytest.mark.parametrize("shape", [(3, 64), (3, 64, 1, 1), (3, 64, 9, 4)])
def test_oracle_4_any_map_gives_a_gaussian(shape):
    mu, logvar = FDP(64, 100)(torch.randn(shape))
    assert mu.shape == logvar.shape == (3, 100)
    assert (logvar.exp() > 0).all()


def test_oracle_4_the_log_variance_is_unbounded():
    read = FDP(4, 3)
    with torch.no_grad():
        read.logvar.weight.fill_(100.0)
    _, logvar = read(torch.stack([torch.ones(4), -torch.ones(4)]))
    assert logvar.max() > 300
    assert logvar.min() < -300


@pytest.mark.parametrize(("channels", "classes", "expected"), [(64, 100, 13_000), (16, 100, 3_400), (128, 100, 25_800)])
def test_oracle_4_parameters(channels, classes, expected):
    assert count(FDP(channels, classes)) == expected == 2 * (channels * classes + classes)


def test_half_precision():
    fuse, read = fusion("dual"), FDP(64, 10)
    full = read(fuse(maps()))
    with torch.autocast("cpu", torch.bfloat16):
        half = read(fuse(maps()))
    for one, other in zip(full, half, strict=True):
        assert (one - other).abs().max() < 0.1 * one.abs().max()


def test_mistakes_are_named():
    with pytest.raises(AttarError, match="did you mean 'convex'"):
        fusion("convx")
    with pytest.raises(AttarError, match="no levels"):
        AFF([], 4, 4)
