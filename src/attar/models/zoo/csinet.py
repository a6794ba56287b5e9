"""CsiNet (Wen, Shih and Jin, arXiv:1712.08919): an autoencoder of channels, its encoder and its decoder apart."""

from __future__ import annotations

from torch import Tensor, nn

from attar.errors import AttarError
from attar.models.registry import register_model
from attar.models.surgery.staged import Layout, Staged
from attar.sizes import Size, height_width

SLOPE = 0.3  # of the leaky ReLUs, as published


class CsiNet(Staged):
    """Channels (B, 2, D, A) to codewords of 2 * D * A / compression numbers, and back to channels.

    The encoder is the stem and the first two stages: a convolution, `depth` residual blocks, and a linear layer whose
    output, the tap "stage2" (B, M, 1, 1), is the codeword. The decoder is the rest: a linear layer and two refinement
    blocks (stages 3 and 4, both of 2 channels at every width), and a last convolution.

    The defaults have the published widths (2 channels in the encoder, 8 and 16 in a refinement block). Deviates:
    channels are not brought into [0, 1] here but lie around zero, so that there is no sigmoid at the end, and no
    activation where one would cut off what is below zero: after the first convolution and after the sums. The network
    then has every linear code within reach. The widths and the depth of the encoder are ours.

    Args:
        num_classes: 2, the real and the imaginary part.
        in_channels: 2, likewise.
        image_size: D and A, delays and antennas: the linear layers' sizes follow from it.
        compression: how many times fewer numbers a codeword has than a channel (4, 16, 32 and 64 in the paper).
        width: channels inside a refinement block are width and twice that; of the encoder a quarter, 2 at least.
        depth: residual blocks of the encoder; with 0 it is linear.

    Raises:
        AttarError: other channels than 2, a compression that leaves no whole number, a width or depth below its least.

    >>> import torch
    >>> net = CsiNet(image_size=(4, 8), compression=4)
    >>> net(torch.zeros(3, 2, 4, 8)).shape, net.features(torch.zeros(3, 2, 4, 8), ["stage2"]).tap("stage2").shape
    (torch.Size([3, 2, 4, 8]), torch.Size([3, 16, 1, 1]))
    """

    encoder_stages = 2

    def __init__(
        self,
        num_classes: int = 2,
        in_channels: int = 2,
        image_size: Size = (16, 32),
        compression: int = 4,
        width: int = 8,
        depth: int = 0,
    ) -> None:
        if (num_classes, in_channels) != (2, 2):
            raise AttarError(
                f"CsiNet takes and gives 2 channels, the real and the imaginary part, not {in_channels} and "
                f"{num_classes}; give it channels (data=sionna or data=channels)"
            )
        if width < 1 or depth < 0:
            raise AttarError(f"width is {width} and depth {depth}; give 1 or more, and 0 or more")
        height, breadth = height_width(image_size)
        numbers = 2 * height * breadth
        if compression < 1 or numbers % compression:
            raise AttarError(f"compression must divide the {numbers} numbers of a channel, got {compression}")
        super().__init__(Layout(stem=("first",), stages=("body", "code", "coarse", "fine"), head=("last",)))
        inner = max(2, width // 4)
        self.first = convolution(2, inner, active=False)
        self.body = nn.Sequential(*(Residual(inner, (inner,)) for _ in range(depth))) if depth else nn.Identity()
        self.code = Compress(inner, numbers, numbers // compression)
        self.coarse = nn.Sequential(Expand(numbers // compression, (2, height, breadth)), refinement(width))
        self.fine = refinement(width)
        self.last = nn.Conv2d(2, 2, 3, padding=1)

    def stem(self, images: Tensor) -> Tensor:
        return self.first(images)

    def average(self, x: Tensor) -> Tensor:
        """The last map as a vector, all of it: where something stands in a channel is what matters."""
        return x.flatten(1)

    def output(self, final: Tensor, pooled: Tensor) -> Tensor:
        return self.last(final)


class Residual(nn.Module):
    """3x3 convolutions of these widths and back to the input's, added to it."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (channels, *widths)
        inner = [convolution(one, other) for one, other in zip(sizes, widths, strict=False)]
        self.layers = nn.Sequential(*inner, convolution(sizes[-1], channels, active=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Compress(nn.Module):
    """A map brought to 2 channels, and by a linear layer to the codeword (B, M, 1, 1)."""

    def __init__(self, channels: int, numbers: int, length: int) -> None:
        super().__init__()
        self.narrow = convolution(channels, 2, active=False) if channels != 2 else nn.Identity()
        self.linear = nn.Linear(numbers, length)

    def forward(self, x: Tensor) -> Tensor:
        code: Tensor = self.linear(self.narrow(x).flatten(1))
        return code[..., None, None]


class Expand(nn.Module):
    """A codeword (B, M, 1, 1) to a map by a linear layer."""

    def __init__(self, length: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(length, shape[0] * shape[1] * shape[2])

    def forward(self, code: Tensor) -> Tensor:
        found: Tensor = self.linear(code.flatten(1))
        return found.unflatten(1, self.shape)


def refinement(width: int) -> Residual:
    """A refinement block of the decoder: 2, width, 2 * width and 2 channels."""
    return Residual(2, (width, 2 * width))


def convolution(inputs: int, outputs: int, active: bool = True) -> nn.Sequential:
    """A 3x3 convolution with its norm, and a leaky ReLU where it is active."""
    norm = nn.BatchNorm2d(outputs)
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), norm, nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*(layers if active else layers[:2]))


register_model(
    "csinet",
    family="csinet",
    description="CsiNet, an autoencoder of channels; compression, width and depth of its encoder",
    build=CsiNet,
)
