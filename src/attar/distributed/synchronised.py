"""What has to see the whole batch although each process holds a slice of it: batch norm, and losses between samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from attar.accel.norm_override import at_channels, norms_by, other_dims
from attar.knowledge import Transfer, Value
from attar.losses import CC, DIST, MLKD, PKT, RKDAngle, RKDDistance, SimilarityPreserving
from attar.losses.numerics import widen

# These compare samples with each other. Any other loss declares it: whole_batch = True.
BETWEEN_SAMPLES = (CC, DIST, MLKD, PKT, RKDAngle, RKDDistance, SimilarityPreserving)


def needs_whole_batch(loss: nn.Module) -> bool:
    """Whether a loss of slices, averaged with their sizes as weights, is not the loss of the batch.

    >>> from attar.losses import MSE
    >>> needs_whole_batch(MSE()), needs_whole_batch(MSE("sum")), needs_whole_batch(PKT())
    (False, True, True)
    """
    summed = getattr(loss, "reduction", "mean") == "sum"
    return isinstance(loss, BETWEEN_SAMPLES) or summed or bool(getattr(loss, "whole_batch", False))


def whole_batch_losses(loss: nn.Module) -> Iterator[nn.Module]:
    """A loss, or those inside a loss that wraps others, as far as they need the whole batch.

    >>> from attar.losses import Standardised
    >>> [type(one).__name__ for one in whole_batch_losses(Standardised(DIST()))]
    ['DIST']
    """
    if needs_whole_batch(loss):
        yield loss
        return
    for part in loss.children():
        yield from whole_batch_losses(part)


@contextmanager
def seeing_everything(edges: Sequence[Transfer], sizes: list[int]) -> Iterator[None]:
    """Inside, batch norm in training and the losses that need it see the rows of all processes, each row once.

    Args:
        edges: of the method that runs inside.
        sizes: how many rows each process has.
    """

    def gather(
        loss: nn.Module, inputs: tuple[Value, ...], named: dict[str, Value]
    ) -> tuple[tuple[Value, ...], dict[str, Value]]:
        within.append(loss)
        return tuple(_gathered(value, sizes) for value in inputs), {
            name: _gathered(value, sizes) for name, value in named.items()
        }

    def leave(*_: object) -> None:
        within.pop()

    def norm(*arguments: Any, **keys: Any) -> Tensor:
        # A loss that sees the whole batch has every row already.
        return (F.batch_norm if within else batch_norm)(*arguments, **keys)

    within = list[nn.Module]()
    with ExitStack() as stack:
        for loss in {loss for edge in edges for loss in whole_batch_losses(edge.loss)}:
            stack.enter_context(loss.register_forward_pre_hook(gather, with_kwargs=True))
            stack.enter_context(loss.register_forward_hook(leave, always_call=True))
        stack.enter_context(norms_by(norm))
        yield


def _gathered(value: Value, sizes: list[int]) -> Value:
    if isinstance(value, tuple):
        return tuple(_gathered(part, sizes) for part in value)  # type: ignore[misc]
    gathered: Tensor = Gathered.apply(value, sizes)
    return gathered


class Gathered(torch.autograd.Function):
    """The rows of all processes, in order; a row's gradient is the sum of what the processes have for it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = F.pad(rows, [0, 0] * (rows.ndim - 1) + [0, max(sizes) - len(rows)]).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        whole = gradients[0].contiguous().clone()
        dist.all_reduce(whole)
        return whole.split(ctx.sizes)[dist.get_rank()], None


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` in training, over the rows of all processes, on any device."""
    scale = weight if weight is not None else x.new_ones(x.shape[1])
    shift = bias if bias is not None else x.new_zeros(x.shape[1])
    normed: Tensor
    normed, mean, spread, count = _Norm.apply(x, scale, shift, eps)
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            running_var.lerp_((spread / (count - 1)).to(running_var.dtype), momentum)
    return normed


class _Norm(torch.autograd.Function):
    """Normalise with the statistics of all processes: one exchange forward, one backward, of two numbers a channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels, dims = x.shape[1], other_dims(x)
        wide = widen(x)
        var, mean = torch.var_mean(wide, dims, correction=0)
        rows = torch.full_like(mean[:1], x.numel() // channels)
        mine = torch.cat([mean, var * rows, rows])
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, mine)
        means, spreads, counts = torch.stack(parts).split([channels, channels, 1], dim=1)
        # Squared deviations from each process's own mean, then from the common one (Chan et al., 1979).
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        spread = (spreads + counts * (means - mean).square()).sum(0)
        inverse = (spread / count + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, inverse, count)
        ctx.mark_non_differentiable(mean, spread, count)
        normed = (wide - at_channels(mean, x)) * at_channels(inverse * weight, x) + at_channels(bias, x)
        return normed.to(x.dtype), mean, spread, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        dims = other_dims(x)
        gradient, normal = widen(gradients[0]), (widen(x) - at_channels(mean, x)) * at_channels(inverse, x)
        for_bias, for_weight = gradient.sum(dims), (gradient * normal).sum(dims)
        # A parameter's gradient stays this process's own: it is averaged with all the others.
        both = torch.stack([for_bias, for_weight])
        dist.all_reduce(both)
        shared, along = both / count
        into = (gradient - at_channels(shared, x) - normal * at_channels(along, x)) * at_channels(inverse * weight, x)
        return into.to(x.dtype), for_weight.to(weight.dtype), for_bias.to(weight.dtype), None
