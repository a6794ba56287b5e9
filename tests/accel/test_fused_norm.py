"""The batch norm that a compiler can fuse is torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attar.accel import compiled_steps
from attar.accel.compiled_steps import Compiled
from attar.accel.fused_norm import batch_norm
from attar.accel.norm_override import norms_by
from attar.batch import Address, Batch
from attar.methods import create_method


def both(x, running=True, affine=True, momentum=0.1):
    """For torch's function and ours: output, running statistics, gradients of what there is."""
    generator, channels = torch.Generator().manual_seed(1), x.shape[1]
    numbers = torch.randn(2, channels, dtype=torch.float64, generator=generator)
    upstream = torch.randn(x.shape, dtype=torch.float64, generator=generator).to(x.dtype)
    found = []
    for norm in (F.batch_norm, batch_norm):
        leaves = [x.clone().requires_grad_(), *(one.clone().requires_grad_() for one in numbers)][: 3 if affine else 1]
        kept = [numbers[0].clone(), numbers[1].exp()] if running else [None, None]
        y = norm(leaves[0], *kept, *leaves[1:], training=True, momentum=momentum)
        found.append([y, *filter(lambda one: one is not None, kept), *torch.autograd.grad(y, leaves, upstream)])
    return found


@pytest.mark.parametrize("shape", [(8, 5), (6, 4, 7), (4, 3, 5, 5), (2, 3, 2, 3, 4)])
@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_value_statistics_and_gradients(shape, running, affine):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for true, mine in zip(*both(x, running, affine), strict=True):
        assert torch.allclose(mine, true, rtol=1e-10, atol=1e-12)


def test_a_mean_far_from_zero_does_not_cancel_out_the_variance():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, 8, 8, generator=generator) + 3000
    mean, var = torch.full((4,), 2990.0), torch.ones(4)
    normed = batch_norm(x, mean, var, momentum=1.0)
    assert torch.allclose(var, x.double().var((0, 2, 3)).float(), rtol=1e-3)
    assert torch.allclose(normed, F.batch_norm(x.double(), None, None, training=True).float(), atol=2e-3)


def test_bfloat16_is_as_near_as_torchs_own():
    x = torch.randn(32, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    exact = F.batch_norm(x.bfloat16().double(), None, None, training=True)
    mine, usual = (norm(x.bfloat16(), None, None, training=True) for norm in (batch_norm, F.batch_norm))
    assert mine.dtype == torch.bfloat16
    assert (mine - exact).norm() <= 1.05 * (usual - exact).norm()


def test_one_value_a_channel_is_refused_as_torch_does():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        batch_norm(torch.zeros(1, 3), torch.zeros(3), torch.ones(3))


def test_only_norms_that_compute_statistics_are_replaced():
    asked = []

    def noticing(*arguments, **named):
        asked.append(arguments[0])
        return batch_norm(*arguments, **named)

    x, norm = torch.randn(4, 3), nn.BatchNorm1d(3)
    with norms_by(noticing):
        norm(x)
        norm.eval()(x)
    assert len(asked) == 1


def test_a_compiled_step_takes_it_on_a_processor(monkeypatch):
    taken = []
    monkeypatch.setattr(torch, "compile", lambda one, **_: one)
    monkeypatch.setattr(
        compiled_steps, "batch_norm", lambda *given, **named: taken.append(1) or batch_norm(*given, **named)
    )
    student = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    batch = Batch(torch.randn(5, 1, 4, 4), torch.arange(5) % 3, torch.arange(5), Address(0, 0, 0), epochs=1)
    Compiled(create_method("supervised", student=student).train())(batch)
    assert taken == [1]
