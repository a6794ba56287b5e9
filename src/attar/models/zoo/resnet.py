"""Residual networks for small images (He et al., arXiv:1512.03385): a 3x3 stem and no pooling after it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from attar.models.registry import register_model
from attar.models.surgery.staged import Block, Layout, Staged, check_stages


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The 1x1 convolution and norm of a shortcut that changes shape; None where it changes nothing."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(Block):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return self.bn2

    def preactivation(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return out + (x if self.downsample is None else self.downsample(x))


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the stride is on the 3x3."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut(inputs, outputs, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return self.bn3

    def preactivation(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        return out + (x if self.downsample is None else self.downsample(x))


class ResNet(Staged):
    """A residual network: the first stage keeps the image's size, each further one halves it.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: blocks in each stage.
        widths: each stage's width; a bottleneck puts out four times that.
        stem_width: channels of the stem.
        num_classes: classes.
        in_channels: channels of the images.
        zero_gamma: the last norm of every block starts with scale 0, so that the network starts as its shortcuts
            (arXiv:1706.02677, section 5.1).

    >>> net = ResNet(BasicBlock, depths=(3, 3, 3), widths=(16, 32, 64), stem_width=16)
    >>> sum(parameter.numel() for parameter in net.parameters())
    278324
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        widths: Sequence[int],
        stem_width: int,
        num_classes: int = 100,
        in_channels: int = 3,
        zero_gamma: bool = False,
    ) -> None:
        check_stages(depths, widths)
        names = tuple(f"layer{number}" for number in range(1, len(depths) + 1))
        super().__init__(Layout(stem=("conv1", "bn1"), stages=names, head=("fc",)))
        self.conv1 = conv3x3(in_channels, stem_width)
        self.bn1 = nn.BatchNorm2d(stem_width)
        channels = stem_width
        for name, depth, width in zip(names, depths, widths, strict=True):
            blocks: list[nn.Module] = []
            for number in range(depth):
                stride = 2 if number == 0 and name != "layer1" else 1
                blocks.append(block(channels, width, stride))
                channels = width * block.expansion
            self.add_module(name, nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)
        self.initialise()
        if zero_gamma:
            for module in self.modules():
                if isinstance(module, BasicBlock | Bottleneck):
                    nn.init.zeros_(module.last_norm.weight)

    def stem(self, images: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(images)), inplace=True)


for depth in (8, 14, 20, 32, 44, 56, 110):
    register_model(
        f"resnet{depth}",
        family="resnet",
        description=f"CIFAR ResNet-{depth}, widths 16-32-64",
        build=partial(ResNet, BasicBlock, depths=((depth - 2) // 6,) * 3, widths=(16, 32, 64), stem_width=16),
    )
for depth in (8, 32):
    register_model(
        f"resnet{depth}x4",
        family="resnet",
        description=f"CIFAR ResNet-{depth}, four times as wide: 64-128-256 after a stem of 32",
        build=partial(ResNet, BasicBlock, depths=((depth - 2) // 6,) * 3, widths=(64, 128, 256), stem_width=32),
    )
for name, kind, depths in (
    ("resnet18", BasicBlock, (2, 2, 2, 2)),
    ("resnet34", BasicBlock, (3, 4, 6, 3)),
    ("resnet50", Bottleneck, (3, 4, 6, 3)),
):
    register_model(
        name,
        family="resnet",
        description=f"ResNet-{name[6:]} as for ImageNet, with a 3x3 stem for small images",
        build=partial(ResNet, kind, depths=depths, widths=(64, 128, 256, 512), stem_width=64),
    )
