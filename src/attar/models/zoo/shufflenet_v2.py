"""ShuffleNet V2 (Ma et al., arXiv:1807.11164) for small images: a 1x1 stem that keeps the size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.models.registry import register_model
from attar.models.surgery.staged import Block, Layout, Staged, check_stages
from attar.models.zoo.shufflenet_v1 import shuffled


def branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """1x1, depthwise 3x3, 1x1, without the last ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, stride, padding=1, groups=outputs, bias=False),
        nn.BatchNorm2d(outputs),
        nn.Conv2d(outputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )


class SplitBlock(Block):
    """Half of the channels pass, half go through a branch, then both are shuffled.

    The last ReLU covers both halves: the passing one comes out of a ReLU and is not changed by another.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.right = branch(channels // 2, channels // 2, stride=1)

    def preactivation(self, x: Tensor) -> Tensor:
        passing, active = x.chunk(2, dim=1)
        return shuffled(torch.cat([passing, self.right(active)], dim=1), groups=2)


class DownBlock(Block):
    """Two branches of stride 2, joined and shuffled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.left = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, stride=2, padding=1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, half, 1, bias=False),
            nn.BatchNorm2d(half),
        )
        self.right = branch(inputs, half, stride=2)

    def preactivation(self, x: Tensor) -> Tensor:
        return shuffled(torch.cat([self.left(x), self.right(x)], dim=1), groups=2)


class ShuffleNetV2(Staged):
    """ShuffleNet V2 with a stem of 24 channels; every stage halves the map.

    Args:
        depths: blocks in each stage, the halving one included.
        widths: channels of each stage, even numbers.
        last: channels of the last 1x1 convolution.
        num_classes: classes.
        in_channels: channels of the images.

    >>> sum(parameter.numel() for parameter in ShuffleNetV2().parameters())
    1355528
    """

    def __init__(
        self,
        depths: Sequence[int] = (4, 8, 4),
        widths: Sequence[int] = (116, 232, 464),
        last: int = 1024,
        num_classes: int = 100,
        in_channels: int = 3,
    ) -> None:
        check_stages(depths, widths)
        names = tuple(f"stage{number}" for number in range(1, len(depths) + 1))
        super().__init__(Layout(stem=("conv1", "bn1"), stages=names, head=("conv2", "bn2", "fc")))
        channels = 24
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for name, depth, width in zip(names, depths, widths, strict=True):
            blocks = [SplitBlock(width) for _ in range(depth - 1)]
            self.add_module(name, nn.Sequential(DownBlock(channels, width), *blocks))
            channels = width
        self.conv2 = nn.Conv2d(channels, last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.fc = nn.Linear(last, num_classes)
        self.initialise()

    def stem(self, images: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(images)), inplace=True)

    def final(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(x)), inplace=True)


for name, widths in (("shufflenetv2", (116, 232, 464)), ("shufflenetv2_x1_5", (176, 352, 704))):
    register_model(
        name,
        family="shufflenet",
        description=f"ShuffleNet V2, widths {'-'.join(map(str, widths))}, last convolution 1024",
        build=partial(ShuffleNetV2, widths=widths),
    )
