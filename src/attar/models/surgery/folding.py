"""Batch norms folded into the convolutions before them: the same function in eval mode, with one layer less."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Unit:
    """A convolution where it stands in a network, with its batch norm where it has one.

    Attributes:
        parent: the module that holds both.
        path: the parent's name in the network.
        conv_name: the convolution's name in its parent.
        norm_name: the batch norm's; None where the convolution has none of its own.
    """

    parent: nn.Module
    path: str
    conv_name: str
    norm_name: str | None

    @property
    def conv(self) -> nn.Conv2d:
        return getattr(self.parent, self.conv_name)

    @property
    def norm(self) -> nn.BatchNorm2d | None:
        return None if self.norm_name is None else getattr(self.parent, self.norm_name)

    def replace(self, module: nn.Module) -> None:
        """Put one module where the two stood; the norm's place keeps an identity, so that the forward pass stays."""
        setattr(self.parent, self.conv_name, module.train(self.parent.training))
        if self.norm_name is not None:
            setattr(self.parent, self.norm_name, nn.Identity().train(self.parent.training))


def units(net: nn.Module) -> Iterator[Unit]:
    """Every plain `Conv2d` below a network, with the batch norm that reads it.

    The norm must be registered right behind the convolution, in an `nn.Sequential` or under a name of the same number
    (conv2, bn2; conv, bn). A norm that comes first, as in pre-activation networks, is not the convolution's.

    >>> [(unit.conv_name, unit.norm_name) for unit in units(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))]
    [('0', '1')]
    """
    for path, parent in list(net.named_modules()):
        for (name, child), (next_name, after) in pairwise([*parent.named_children(), ("", None)]):
            # Subclasses may compute something else.
            if type(child) is nn.Conv2d:
                paired = isinstance(parent, nn.Sequential) or number(name) == number(next_name)
                yield Unit(parent, path, name, next_name if paired and normalises(after, child) else None)


def number(name: str) -> str:
    """The digits that a name ends in."""
    return name[len(name.rstrip(string.digits)) :]


def normalises(module: nn.Module | None, conv: nn.Conv2d) -> bool:
    """Whether a module is a plain batch norm, with statistics and scale, over a convolution's output."""
    # timm's norms derive from BatchNorm2d and hold an activation too.
    if type(module) is not nn.BatchNorm2d:
        return False
    return module.num_features == conv.out_channels and module.affine and module.track_running_stats


def kernel_and_bias(conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> tuple[Tensor, Tensor]:
    """What a convolution and its norm do in eval mode as one kernel and bias, in float64 on the CPU.

    W' = W gamma / sd and b' = beta + (b - mean) gamma / sd per output channel, with sd = sqrt(var + eps).

    >>> norm = nn.BatchNorm2d(1, eps=0.0)
    >>> _ = norm.running_var.fill_(4.0), norm.running_mean.fill_(3.0)
    >>> kernel, bias = kernel_and_bias(nn.Conv2d(1, 1, 1, bias=False), norm)
    >>> round(bias.item(), 4)
    -1.5
    """
    weight = wide(conv.weight)
    bias = weight.new_zeros(conv.out_channels) if conv.bias is None else wide(conv.bias)
    if norm is None:
        return weight, bias
    mean, variance = wide(cast(Tensor, norm.running_mean)), wide(cast(Tensor, norm.running_var))
    scale = wide(norm.weight) / (variance + norm.eps).sqrt()
    return weight * scale.view(-1, 1, 1, 1), wide(norm.bias) + (bias - mean) * scale


def wide(tensor: Tensor) -> Tensor:
    """A tensor in float64, on the CPU: not every accelerator has that type."""
    return (tensor if tensor.is_meta else tensor.cpu()).double()


@torch.no_grad()
def conv_with(like: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution with the geometry and type of another, and these values."""
    conv = nn.utils.skip_init(
        nn.Conv2d,
        like.in_channels,
        like.out_channels,
        like.kernel_size,
        stride=like.stride,
        padding=like.padding,
        dilation=like.dilation,
        groups=like.groups,
        padding_mode=like.padding_mode,
        device=like.weight.device,
        dtype=like.weight.dtype,
    )
    conv.weight.copy_(weight)
    conv.bias.copy_(bias)
    return conv


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution with bias that does what both do in eval mode."""
    return conv_with(conv, *kernel_and_bias(conv, norm))


def fold_norms(net: nn.Module) -> nn.Module:
    """Fold every batch norm that stands behind a convolution, in place; returns the network.

    Only what the network computes in eval mode stays the same.

    >>> net = fold_norms(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    >>> type(net[1]).__name__
    'Identity'
    """
    for unit in list(units(net)):
        if unit.norm is not None:
            unit.replace(folded(unit.conv, unit.norm))
    return net
