"""ShuffleNet V1 (Zhang et al., arXiv:1707.01083) for small images: a 1x1 stem that keeps the size, three groups."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.models.registry import register_model
from attar.models.surgery.staged import Block, Layout, Staged, check_stages


def shuffled(x: Tensor, groups: int) -> Tensor:
    """The channels dealt out so that each group's go to every group.

    >>> shuffled(torch.arange(6).view(1, 6, 1, 1), groups=2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleBlock(Block):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; a stride of 2 joins the average-pooled input.

    Deviates from the paper as the distillation literature's network does: there is a ReLU after the depthwise
    convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int, first_groups: int) -> None:
        super().__init__()
        self.stride = stride
        self.groups = first_groups
        added = outputs - inputs if stride == 2 else outputs
        hidden = added // 4
        self.conv1 = nn.Conv2d(inputs, hidden, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, added, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(added)

    def preactivation(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = shuffled(out, self.groups)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        if self.stride == 1:
            return out + x
        return torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], dim=1)


class ShuffleNetV1(Staged):
    """ShuffleNet V1 with a stem of 24 channels; every stage halves the map.

    Args:
        depths: blocks in each stage.
        widths: channels of each stage.
        groups: groups of the 1x1 convolutions; the first reads the stem ungrouped.
        num_classes: classes.
        in_channels: channels of the images.

    >>> sum(parameter.numel() for parameter in ShuffleNetV1().parameters())
    949258
    """

    def __init__(
        self,
        depths: Sequence[int] = (4, 8, 4),
        widths: Sequence[int] = (240, 480, 960),
        groups: int = 3,
        num_classes: int = 100,
        in_channels: int = 3,
    ) -> None:
        check_stages(depths, widths)
        names = tuple(f"stage{number}" for number in range(1, len(depths) + 1))
        super().__init__(Layout(stem=("conv1", "bn1"), stages=names, head=("fc",)))
        channels = 24
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for name, depth, width in zip(names, depths, widths, strict=True):
            blocks: list[nn.Module] = []
            for number in range(depth):
                first = number == 0
                ungrouped = first and name == "stage1"
                blocks.append(ShuffleBlock(channels, width, 2 if first else 1, groups, 1 if ungrouped else groups))
                channels = width
            self.add_module(name, nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)
        self.initialise()

    def stem(self, images: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(images)), inplace=True)


register_model(
    "shufflenetv1",
    family="shufflenet",
    description="ShuffleNet V1, 3 groups, widths 240-480-960",
    build=ShuffleNetV1,
)
