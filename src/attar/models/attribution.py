"""Which pixels a frozen network's prediction depends on: the gradient of its loss, and integrated gradients."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import upload
from attar.errors import AttarError
from attar.models.surgery.taps import observe


@torch.enable_grad()
def input_gradient(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """d CE(net(x), y) / dx of each image, (B, C, H, W); parameters get no gradient.

    Args:
        net: any network, as it is, in eval mode.
        images: (B, C, H, W).
        labels: (B,) class numbers.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> with torch.no_grad():
    ...     _ = net[1].weight.copy_(torch.tensor([[1.0, -2.0, 3.0, 0.5], [0.0, 0.0, 0.0, 0.0]]))
    >>> input_gradient(net, torch.randn(1, 1, 2, 2), torch.tensor([0])).abs().argmax().item()
    2
    """
    leaf = images.detach().requires_grad_()
    loss = F.cross_entropy(observe(net, leaf).logits, labels, reduction="sum")
    return torch.autograd.grad(loss, leaf)[0]


def integrated_gradients(
    net: nn.Module, images: Tensor, labels: Tensor, steps: int = 50, baseline: float = 0.0, together: int = 256
) -> Tensor:
    """Integrated gradients of the softmax probability of each image's label, (B, C, H, W) (arXiv:1703.01365).

    IG = (x - x') * integral from 0 to 1 of dp_y(x' + a (x - x')) / dx da; over the pixels they sum to p_y(x) - p_y(x').
    The integral is a Gauss-Legendre sum. It costs `steps` forward and backward passes of every image; `together`
    images go through the network at once. Parameters get no gradient.

    Args:
        net: any network, as it is, in eval mode.
        images: (B, C, H, W).
        labels: (B,) class numbers.
        steps: nodes of the sum (50, Captum's default).
        baseline: x', one value for every pixel (0).
        together: how many images are in one pass at most, but at least the batch (256).

    Raises:
        AttarError: steps below 1.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))
    >>> with torch.no_grad():
    ...     _ = net[1].weight.copy_(torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, -1.0], [0.5, 0.5, 0.0]]))
    >>> found = integrated_gradients(net, torch.tensor([[[[2.0, 1.0, -1.0]]]]), torch.tensor([0]))
    >>> [round(value, 4) for value in found.flatten().tolist()]
    [0.2615, -0.2337, -0.2615]
    """
    if steps < 1:
        raise AttarError(f"steps is {steps}; integrated gradients need at least 1")
    held = upload([numbers.to(images.dtype) for numbers in _legendre(steps)], images.device)
    nodes, shares = (numbers.split(max(together // len(images), 1)) for numbers in held)
    total = torch.zeros_like(images)
    for some, their in zip(nodes, shares, strict=True):
        path = baseline + (some.view(-1, 1, 1, 1, 1) + 0.5) * (images - baseline)
        gradient = _probability_gradient(net, path.flatten(0, 1), labels.repeat(len(some)))
        total += torch.einsum("s,s...->...", their, gradient.view_as(path))
    return (images - baseline) * total


def _legendre(steps: int) -> tuple[Tensor, Tensor]:
    """The nodes in -1/2..1/2 and the weights, which sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return torch.from_numpy(nodes / 2), torch.from_numpy(weights / 2)


@torch.enable_grad()
def _probability_gradient(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    leaf = images.detach().requires_grad_()
    probabilities = observe(net, leaf).logits.softmax(1)
    return torch.autograd.grad(probabilities.gather(1, labels[:, None]).sum(), leaf)[0]
