"""VGG with batch norm (Simonyan and Zisserman, arXiv:1409.1556), for small images and with one linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from attar.models.registry import register_model
from attar.models.surgery.staged import Block, Layout, Staged, check_stages


class ConvBlock(Block):
    """A 3x3 convolution with bias, norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn = nn.BatchNorm2d(outputs)

    def preactivation(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class VGG(Staged):
    """Five groups of convolutions: the first is the stem, the next three halve the map, the last keeps it.

    Args:
        depths: convolutions in the stem and in each stage.
        widths: channels of the stem and of each stage.
        num_classes: classes.
        in_channels: channels of the images.

    >>> net = VGG(depths=(1, 1, 1, 1, 1))
    >>> sum(parameter.numel() for parameter in net.parameters())
    3965028
    """

    smallest = 8
    group0: nn.Sequential

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        num_classes: int = 100,
        in_channels: int = 3,
    ) -> None:
        check_stages(depths, widths)
        names = tuple(f"stage{number}" for number in range(1, len(depths)))
        super().__init__(Layout(stem=("group0",), stages=names, head=("fc",)))
        channels = in_channels
        for name, depth, width in zip(("group0", *names), depths, widths, strict=True):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if name in ("stage1", "stage2", "stage3") else []
            for _ in range(depth):
                layers.append(ConvBlock(channels, width))
                channels = width
            self.add_module(name, nn.Sequential(*layers))
        self.fc = nn.Linear(channels, num_classes)
        self.initialise()

    def stem(self, images: Tensor) -> Tensor:
        return self.group0(images)


for name, depths in (
    ("vgg8", (1, 1, 1, 1, 1)),
    ("vgg11", (1, 1, 2, 2, 2)),
    ("vgg13", (2, 2, 2, 2, 2)),
    ("vgg16", (2, 2, 3, 3, 3)),
    ("vgg19", (2, 2, 4, 4, 4)),
):
    register_model(
        name,
        family="vgg",
        description=f"VGG-{name[3:]} with batch norm and one linear layer, for small images",
        build=partial(VGG, depths=depths),
    )
