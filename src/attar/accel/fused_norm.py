"""Batch norm in training, written so that a compiler fuses it with what stands around it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.accel.norm_override import at_channels, other_dims
from attar.losses.numerics import widen


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
    """`torch.nn.functional.batch_norm` in training, from two sums in one pass and one multiplication and addition.

    torch's own reads its input three times and the code that its compiler makes of it divides for every element; here a
    compiler reads it once for the statistics and once to normalise, with the ReLU that follows.

    Args:
        x: (B, C, ...).
        running_mean, running_var: (C,), moved towards the batch's in place; None: not kept.
        weight, bias: (C,); None: ones and zeros.
        training: always true here; the argument is that of torch's function.
        momentum: how far the running statistics move.
        eps: added to the variance.

    Raises:
        ValueError: there is one value a channel.

    >>> x = torch.tensor([[1.0], [3.0]])
    >>> batch_norm(x, None, None).tolist() == F.batch_norm(x, None, None, training=True).tolist()
    True
    """
    count = x.numel() // x.shape[1]
    if count == 1:  # which torch's own refuses
        return F.batch_norm(x, running_mean, running_var, weight, bias, True, momentum, eps)
    wide = torch.promote_types(x.dtype, torch.float32)
    scale = weight if weight is not None else x.new_ones(x.shape[1], dtype=wide)
    shift = bias if bias is not None else x.new_zeros(x.shape[1], dtype=wide)
    normed: Tensor
    normed, mean, var = _Norm.apply(x, scale, shift, eps)
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
    return normed


class _Norm(torch.autograd.Function):
    """Sums of deviations from a value of each channel: without one, the variance of a large mean would cancel out.

    It is not the running mean, which is nearer: a compiler may compute it once more for the way back, after it moved.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        dims, share = other_dims(x), x.shape[1] / x.numel()
        pivot = widen(x[0].flatten(1)[:, 0] if x.ndim > 2 else x[0])
        away = widen(x) - at_channels(pivot, x)
        shifted, squares = away.sum(dims) * share, (away * away).sum(dims) * share
        var = (squares - shifted * shifted).clamp_min(0)
        mean, inverse = shifted + pivot, (var + eps).rsqrt()
        scale = weight * inverse
        normed = away * at_channels(scale, x) + at_channels(bias - shifted * scale, x)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.mark_non_differentiable(mean, var)
        return normed.to(x.dtype), mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse = ctx.saved_tensors
        dims, share = other_dims(x), x.shape[1] / x.numel()
        gradient, wide = widen(gradients[0]), widen(x)
        for_bias = gradient.sum(dims)
        for_weight = ((gradient * (wide - at_channels(mean, x))).sum(dims)) * inverse
        # weight / std * (g - mean(g) - normal * mean(g * normal)), as one line in g and x.
        of_gradient = weight * inverse
        of_x = -of_gradient * inverse * for_weight * share
        constant = -of_gradient * for_bias * share - of_x * mean
        into = gradient * at_channels(of_gradient, x) + wide * at_channels(of_x, x) + at_channels(constant, x)
        return into.to(x.dtype), for_weight.to(weight.dtype), for_bias.to(weight.dtype), None
