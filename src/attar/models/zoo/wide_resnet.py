"""Wide residual networks (Zagoruyko and Komodakis, arXiv:1605.07146): norm and ReLU come before each convolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from attar.models.registry import register_model
from attar.models.surgery.staged import Layout, Staged, check_stages


class WideBlock(nn.Module):
    """Two pre-activated 3x3 convolutions; a shortcut that changes width starts after the first ReLU, without a norm."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = stride != 1 or inputs != width
        self.shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        out = self.conv1(active)
        out = self.conv2(F.relu(self.bn2(out), inplace=True))
        return out + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(Staged):
    """A wide residual network; its stage taps are raw residual sums.

    Args:
        depths: blocks in each stage.
        widths: channels of each stage.
        stem_width: channels of the stem.
        num_classes: classes.
        in_channels: channels of the images.

    >>> net = WideResNet(depths=(2, 2, 2), widths=(16, 32, 64))
    >>> sum(parameter.numel() for parameter in net.parameters())
    180916
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        stem_width: int = 16,
        num_classes: int = 100,
        in_channels: int = 3,
    ) -> None:
        check_stages(depths, widths)
        names = tuple(f"stage{number}" for number in range(1, len(depths) + 1))
        super().__init__(Layout(stem=("conv1",), stages=names, head=("bn", "fc")))
        self.conv1 = nn.Conv2d(in_channels, stem_width, 3, padding=1, bias=False)
        channels = stem_width
        for name, depth, width in zip(names, depths, widths, strict=True):
            blocks: list[nn.Module] = []
            for number in range(depth):
                stride = 2 if number == 0 and name != "stage1" else 1
                blocks.append(WideBlock(channels, width, stride))
                channels = width
            self.add_module(name, nn.Sequential(*blocks))
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        self.initialise()

    def stem(self, images: Tensor) -> Tensor:
        return self.conv1(images)

    def final(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(x), inplace=True)


for depth, width in ((16, 1), (16, 2), (40, 1), (40, 2)):
    register_model(
        f"wrn_{depth}_{width}",
        family="wide_resnet",
        description=f"Wide ResNet, depth {depth}, {width} times as wide as 16-32-64",
        build=partial(WideResNet, depths=((depth - 4) // 6,) * 3, widths=(16 * width, 32 * width, 64 * width)),
    )
