"""CSRNet (Li, Zhang and Chen, arXiv:1802.10062): a VGG-16 front and a dilated back that put out a density map."""

from __future__ import annotations

from torch import Tensor, nn

from attar.errors import AttarError
from attar.models.registry import register_model
from attar.models.surgery.staged import Layout, Staged

# Channels; "pool" halves the map. The stem is the first convolution; stages end where SKT taps the network.
STAGES: tuple[tuple[int | str, ...], ...] = (
    (64, "pool"),
    (128, 128, "pool"),
    (256, 256, 256, "pool"),
    (512, 512, 512, "dilated", 512),
    ("dilated", 512, 512, 256),
)
STEM, LAST = 64, (128, 64)


class CSRNet(Staged):
    """Images (B, C, H, W) to a density map (B, 1, H/8, W/8), whose sum is the number of objects.

    Its stages end at the three poolings, and at the first and the fourth of the six dilated convolutions.

    Deviates: batch norm after each convolution by default, because it trains from scratch; the published network has
    none and starts from ImageNet's VGG-16.

    Args:
        num_classes: 1, the density.
        in_channels: channels of the images.
        divisor: every width is divided by it: 4 gives the quarter that SKT distils into.
        norm: whether each convolution has batch norm.

    Raises:
        AttarError: another number of classes, or a divisor that leaves no whole channels.

    >>> import torch
    >>> CSRNet(divisor=16)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 1, 4, 4])
    """

    smallest = 8

    def __init__(self, num_classes: int = 1, in_channels: int = 3, divisor: int = 1, norm: bool = True) -> None:
        if num_classes != 1:
            raise AttarError(f"CSRNet puts out one density map, not {num_classes} classes; give it data with dots")
        if divisor < 1 or STEM % divisor:
            raise AttarError(f"divisor must divide {STEM}, got {divisor}; give 1, 2, 4, 8, 16, 32 or 64")
        names = tuple(f"stage{number}" for number in range(1, len(STAGES) + 1))
        super().__init__(Layout(stem=("first",), stages=names, head=("last", "density")))
        self.norm = norm
        self.first = nn.Sequential(*self.convolution(in_channels, STEM // divisor, 1))
        channels = STEM // divisor
        dilation = 1
        for name, parts in zip(names, STAGES, strict=True):
            layers: list[nn.Module] = []
            for part in parts:
                if part == "pool":
                    layers.append(nn.MaxPool2d(2))
                elif part == "dilated":
                    dilation = 2
                else:
                    layers += self.convolution(channels, int(part) // divisor, dilation)
                    channels = int(part) // divisor
            self.add_module(name, nn.Sequential(*layers))
        layers = []
        for width in LAST:
            layers += self.convolution(channels, width // divisor, dilation)
            channels = width // divisor
        self.last = nn.Sequential(*layers)
        self.density = nn.Conv2d(channels, 1, 1)
        self.initialise()
        nn.init.normal_(self.density.weight, std=0.01)

    def convolution(self, inputs: int, outputs: int, dilation: int) -> list[nn.Module]:
        """A 3x3 convolution with its norm and ReLU."""
        conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=not self.norm)
        return [conv, *([nn.BatchNorm2d(outputs)] if self.norm else []), nn.ReLU()]

    def stem(self, images: Tensor) -> Tensor:
        return self.first(images)

    def final(self, x: Tensor) -> Tensor:
        return self.last(x)

    def output(self, final: Tensor, pooled: Tensor) -> Tensor:
        return self.density(final)


register_model(
    "csrnet",
    family="csrnet",
    description="CSRNet, density maps for counting; divisor=4 gives a quarter of its width",
    build=CSRNet,
)
