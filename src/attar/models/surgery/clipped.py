"""ReLU6 that keeps its output for the way back, in place of a copy of its input."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReLU6(nn.ReLU6):
    """`torch.nn.ReLU6` with the same numbers and gradients, bit for bit, in less memory.

    torch's needs its input for the way back and, in place, copies it first. The output is enough: the gradient passes
    where it lies between 0 and 6. A convolution that follows keeps that output anyway, so nothing more is held, and
    training writes no longer in place.

    >>> x = torch.tensor([-1.0, 3.0, 8.0], requires_grad=True)
    >>> ReLU6()(x).sum().backward()
    >>> x.grad
    tensor([0., 1., 0.])
    """

    def forward(self, input: Tensor) -> Tensor:
        # Graphs that are compiled or exported keep torch's function: compilers decide themselves what they hold.
        if self.training and input.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _Clipped.apply(input)
        return super().forward(input)


class _Clipped(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return F.relu6(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, out, 0.0, 6.0)


def slimmed(net: nn.Module) -> nn.Module:
    """The network with each of torch's ReLU6 replaced by the one above, in place.

    >>> slimmed(nn.Sequential(nn.Linear(4, 2), nn.ReLU6()))[1].__module__
    'attar.models.surgery.clipped'
    """
    for parent in net.modules():
        for name, child in parent.named_children():
            if type(child) is nn.ReLU6:
                setattr(parent, name, ReLU6(child.inplace).train(child.training))
    return net
