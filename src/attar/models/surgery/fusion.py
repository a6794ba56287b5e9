"""UniKD's two modules: all levels of a network fused into one map, and a map read as a Gaussian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.errors import AttarError, unknown
from attar.models.surgery.staged import averaged

Gate = Literal["convex", "dual"]
Size = tuple[int, int]


class AFF(nn.Module):
    """Adaptive features fusion (UniKD, arXiv:2409.18565): levels joined pairwise, from the deepest to the shallowest.

    Every level passes a 1x1 convolution E and a ReLU. The map fused so far is upsampled (nearest) to the next
    shallower level, and a gate g, the sigmoid of a 1x1 convolution over both, mixes them at each pixel:
    g E(shallow) + (1 - g) Up(deep). A 3x3 convolution and a ReLU give the result.
    The text has the recursion and the mix; that the gate is one channel wide is from the code, and so are the ReLUs.

    Args:
        in_channels: channels of the levels, shallow to deep.
        mid: channels inside.
        out_channels: channels of the fused map.
        gate: "convex" as in the text, or "dual" as in the code: two independent gates, g0 E(shallow) + g1 Up(deep).
        size: (H, W) of the fused map; None leaves it at the shallowest level's.

    Raises:
        AttarError: no levels, or an unknown gate.

    >>> fuse = AFF((64, 128, 256, 256), mid=256, out_channels=64, gate="dual")
    >>> sum(parameter.numel() for parameter in fuse.parameters())
    330758
    """

    def __init__(
        self, in_channels: Sequence[int], mid: int, out_channels: int, gate: Gate = "convex", size: Size | None = None
    ) -> None:
        super().__init__()
        if gate not in get_args(Gate):
            raise unknown("gate", gate, get_args(Gate))
        if not in_channels:
            raise AttarError("there are no levels to fuse; give the channels of one or more")
        self.size = size
        self.embed = nn.ModuleList(nn.Conv2d(channels, mid, 1, bias=False) for channels in in_channels)
        # The deepest level has nothing below it to be mixed with.
        gates = 1 if gate == "convex" else 2
        self.gates = nn.ModuleList(nn.Conv2d(2 * mid, gates, 1) for _ in in_channels[1:])
        self.out = nn.Conv2d(mid, out_channels, 3, padding=1, bias=False)
        for conv in (*self.embed, self.out):
            nn.init.kaiming_uniform_(conv.weight, a=1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """(B, C, H, W) maps from shallow to deep, where a vector (B, C) is a map of one pixel, to one map."""
        maps = (as_map(level) for level in levels)
        *shallower, fused = (F.relu(conv(level)) for conv, level in zip(self.embed, maps, strict=True))
        for gate, shallow in reversed(list(zip(self.gates, shallower, strict=True))):
            deep = F.interpolate(fused, shallow.shape[-2:])
            fused = mixed(shallow, deep, gate(torch.cat([shallow, deep], dim=1)))
        return F.relu(self.out(fused if self.size is None else F.interpolate(fused, self.size)))


def mixed(shallow: Tensor, deep: Tensor, gate_logits: Tensor) -> Tensor:
    """Two maps mixed by one gate that sums to 1 with its complement, or by two independent ones.

    Args:
        shallow: (B, C, H, W).
        deep: (B, C, H, W).
        gate_logits: (B, 1, H, W) or (B, 2, H, W), before the sigmoid.

    >>> one, three = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 3.0)
    >>> mixed(one, three, torch.zeros(1, 1, 1, 1)).item(), mixed(one, three, torch.zeros(1, 2, 1, 1)).item()
    (2.0, 2.0)
    """
    first, *second = gate_logits.sigmoid().split(1, dim=1)
    return first * shallow + (second[0] if second else 1 - first) * deep


class FDP(nn.Module):
    """Feature distribution prediction (UniKD): a map, averaged over space, gives a Gaussian's mean and log-variance.

    The covariance is diagonal. The Gaussian is from the text; the average and the two linear layers are the code's.

    Args:
        in_channels: channels of the map.
        num_classes: dimensions K of the Gaussian, as many as there are logits.

    >>> mu, logvar = FDP(64, 100)(torch.zeros(2, 64, 8, 8))
    >>> mu.shape, logvar.shape
    (torch.Size([2, 100]), torch.Size([2, 100]))
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.mu = nn.Linear(in_channels, num_classes)
        self.logvar = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) or (B, C) to the mean and the log-variance, (B, K) each."""
        pooled = averaged(as_map(x))
        return self.mu(pooled), self.logvar(pooled)


def as_map(x: Tensor) -> Tensor:
    """A vector (B, C) as a map of one pixel; a map as it is."""
    return x[:, :, None, None] if x.ndim == 2 else x
