"""Projectors: a student's feature brought to the shape of a teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from attar.errors import AttarError, PairError, unknown
from attar.models.registry import BUILDERS, Spec

Kind = Literal["auto", "linear", "1x1", "3x3", "pool", "interpolate", "regressor"]
Shape = Sequence[int]


class Adapter(nn.Sequential):
    """Layers that take features of one shape to another; `spec` rebuilds it."""

    def __init__(self, *layers: nn.Module, spec: dict[str, Any]) -> None:
        super().__init__(*layers)
        self.spec = spec


class Resize(nn.Module):
    """A map to a size: averaged over cells, or interpolated bilinearly."""

    def __init__(self, size: Shape, mode: Literal["pool", "interpolate"]) -> None:
        super().__init__()
        self.size = (size[0], size[1])
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "pool":
            return F.adaptive_avg_pool2d(x, self.size)
        return F.interpolate(x, self.size, mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        return f"size={self.size}, mode={self.mode!r}"


def adapter(from_shape: Shape, to_shape: Shape, kind: Kind = "auto", relu: bool = True) -> Adapter:
    """A projector from a student's feature to a teacher's, chosen from their shapes (without the batch).

    Args:
        from_shape: (C,) or (C, H, W) of the student's feature.
        to_shape: (C',) or (C', H', W') of the teacher's; a vector from a map is pooled first.
        kind: "auto" is "linear" to a vector and "regressor" to a map. "regressor" is FitNets' (as in RepDistiller):
            3x3 of stride 2 to half the size, transposed 4x4 of stride 2 to twice the size, an unpadded kernel of
            1 + the difference to a smaller size, and 1x1 with interpolation to any other larger one. "1x1" and "3x3"
            resize what they put out: pooled if larger, interpolated if smaller. "pool" and "interpolate" only resize,
            with a 1x1 convolution where the channels differ.
        relu: whether the batch norm after a convolution is followed by a ReLU, as FitNets' regressor is.

    Raises:
        AttarError: an unknown kind, one that does not go with the shapes, or a map from a vector.

    >>> sum(parameter.numel() for parameter in adapter((16, 32, 32), (32, 16, 16)).parameters())
    4704
    """
    if kind not in get_args(Kind):
        raise unknown("kind of adapter", kind, get_args(Kind))
    if len(from_shape) not in (1, 3) or len(to_shape) not in (1, 3):
        raise AttarError(f"cannot adapt {tuple(from_shape)} to {tuple(to_shape)}; shapes are (C,) or (C, H, W)")
    if len(from_shape) < len(to_shape):
        raise PairError(f"cannot make a map {tuple(to_shape)} of a vector {tuple(from_shape)}; tap the student's map")
    shapes = {"from_shape": list(from_shape), "to_shape": list(to_shape)}
    spec = {"kind": "adapter", **shapes, "adapter": kind, "relu": relu}
    if len(to_shape) == 1:
        return Adapter(*to_vector(from_shape, to_shape, kind), spec=spec)
    return Adapter(*to_map(from_shape, to_shape, kind, relu), spec=spec)


def to_vector(from_shape: Shape, to_shape: Shape, kind: Kind) -> list[nn.Module]:
    if kind not in ("auto", "linear"):
        raise AttarError(f"an adapter of kind {kind!r} makes maps, not the vector {tuple(to_shape)}; use 'linear'")
    pool: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if len(from_shape) == 3 else []
    return [*pool, nn.Linear(from_shape[0], to_shape[0])]


def to_map(from_shape: Shape, to_shape: Shape, kind: Kind, relu: bool) -> list[nn.Module]:
    (inputs, *old), (outputs, *new) = from_shape, to_shape
    if kind == "linear":
        raise AttarError(f"a linear adapter makes vectors, not the map {tuple(to_shape)}; use '1x1'")
    if kind in ("auto", "regressor"):
        layers = regressor(inputs, outputs, old, new)
    elif kind in ("1x1", "3x3"):
        kernel = int(kind[0])
        layers = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), *resized(old, new)]
    else:
        resize = [Resize(new, "pool" if kind == "pool" else "interpolate")] if old != new else []
        layers = [*resize, nn.Conv2d(inputs, outputs, 1)] if inputs != outputs else [*resize]
    if not any(isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) for layer in layers):
        return layers
    return [*layers, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else [])]


def regressor(inputs: int, outputs: int, old: list[int], new: list[int]) -> list[nn.Module]:
    """FitNets' convolution for a pair of sizes."""
    if old == [2 * side for side in new]:
        return [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)]
    if new == [2 * side for side in old]:
        return [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)]
    if all(mine >= wanted for mine, wanted in zip(old, new, strict=True)):
        return [nn.Conv2d(inputs, outputs, (1 + old[0] - new[0], 1 + old[1] - new[1]))]
    return [nn.Conv2d(inputs, outputs, 1), *resized(old, new)]


def resized(old: list[int], new: list[int]) -> list[nn.Module]:
    """What resizes a map: nothing, pooling to a smaller size, interpolation to a larger one."""
    if old == new:
        return []
    smaller = all(mine >= wanted for mine, wanted in zip(old, new, strict=True))
    return [Resize(new, "pool" if smaller else "interpolate")]


class SimKDProjector(nn.Sequential):
    """The bottleneck 1x1, 3x3, 1x1 that SimKD (arXiv:2203.14001) and ATSC (arXiv:2406.08528) keep in the student.

    With m = out_channels // factor it has s*m + 9*m^2 + m*t + 4*m + 2*t parameters, s in and t out.

    Args:
        in_channels: channels of the student's map.
        out_channels: channels of the teacher's map.
        factor: how much narrower the middle is; 2 in both papers' code.

    >>> sum(parameter.numel() for parameter in SimKDProjector(256, 256).parameters())
    214016
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        middle = out_channels // factor if factor > 0 else 0
        if middle < 1:
            raise AttarError(
                f"a factor of {factor} leaves nothing of {out_channels} channels; give 1 to {out_channels}"
            )
        super().__init__(
            nn.Conv2d(in_channels, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, middle, 3, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
        self.spec = {"kind": "simkd", "in_channels": in_channels, "out_channels": out_channels, "factor": factor}


def shrunk(x: Tensor, size: Shape) -> Tensor:
    """A map averaged down to a size, along the sides where it is larger."""
    smaller = (min(x.shape[-2], size[0]), min(x.shape[-1], size[1]))
    return x if x.shape[-2:] == smaller else F.adaptive_avg_pool2d(x, smaller)


def match_size(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """The two maps at one size: the larger is averaged down to the smaller.

    >>> import torch
    >>> [tuple(x.shape) for x in match_size(torch.zeros(2, 16, 4, 4), torch.zeros(2, 64, 8, 8))]
    [(2, 16, 4, 4), (2, 64, 4, 4)]
    """
    return shrunk(student_map, teacher_map.shape[-2:]), shrunk(teacher_map, student_map.shape[-2:])


def _adapter(spec: Spec) -> Adapter:
    fields = dict(spec)
    return adapter(kind=fields.pop("adapter"), **fields)


BUILDERS["adapter"] = _adapter
BUILDERS["simkd"] = lambda spec: SimKDProjector(**spec)
