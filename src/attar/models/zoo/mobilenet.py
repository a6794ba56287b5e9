"""MobileNetV2 (Sandler et al., arXiv:1801.04381) for small images: one halving in the stem, three in the stages."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from attar.models.registry import register_model
from attar.models.surgery.staged import Layout, Staged

# For each group, by the stage it belongs to: its expansion (None: the network's) and stride, blocks, and width.
STAGES = (((1, 1), (None, 1)), ((None, 2),), ((None, 2), (None, 1)), ((None, 2), (None, 1)))
DEPTHS = ((1, 2), (3,), (4, 3), (3, 1))
WIDTHS = ((16, 24), (32,), (64, 96), (160, 320))


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 linear projection; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(Staged):
    """MobileNetV2, half as wide by default as in the distillation literature; its stages end linearly.

    Deviates from the paper as that literature's network does: ReLU for ReLU6, an expansion in the first block too, no
    halving in the second group, no dropout. Deviates from that network in the classifier's initialisation: torch's.

    Args:
        width: factor on every width but the last convolution's, which stays 1280 up to a factor of 1.
        expansion: how much wider a block is inside.
        depths: blocks in each group, by stage.
        widths: each group's width before the factor, by stage.
        num_classes: classes.
        in_channels: channels of the images.

    >>> sum(parameter.numel() for parameter in MobileNetV2().parameters())
    812836
    """

    def __init__(
        self,
        width: float = 0.5,
        expansion: int = 6,
        depths: Sequence[Sequence[int]] = DEPTHS,
        widths: Sequence[Sequence[int]] = WIDTHS,
        num_classes: int = 100,
        in_channels: int = 3,
    ) -> None:
        names = tuple(f"stage{number}" for number in range(1, len(STAGES) + 1))
        super().__init__(Layout(stem=("conv1", "bn1"), stages=names, head=("conv2", "bn2", "fc")))
        channels = int(32 * width)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for name, groups, blocks_of, full_widths in zip(names, STAGES, depths, widths, strict=True):
            blocks: list[nn.Module] = []
            for (own, first), depth, full in zip(groups, blocks_of, full_widths, strict=True):
                outputs = int(full * width)
                for stride in (first, *[1] * (depth - 1)):
                    blocks.append(InvertedResidual(channels, outputs, stride, own or expansion))
                    channels = outputs
            self.add_module(name, nn.Sequential(*blocks))
        last = int(1280 * max(width, 1.0))
        self.conv2 = nn.Conv2d(channels, last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.fc = nn.Linear(last, num_classes)
        self.initialise()

    def stem(self, images: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(images)), inplace=True)

    def final(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(x)), inplace=True)


register_model(
    "mobilenetv2",
    family="mobilenet",
    description="MobileNetV2 at half width, expansion 6, last convolution 1280",
    build=MobileNetV2,
)
