"""CSI feedback: autoencoders that bring a channel to a short codeword and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from attar.batch import Address, Batch
from attar.data.sources.channels import parts, read_channels
from attar.data.sources.simulated_channels import Simulation, simulated
from attar.data.tensor_set import TensorSplits
from attar.errors import AttarError
from attar.losses import MSE
from attar.losses.loss import Loss
from attar.metrics.base import Metrics
from attar.metrics.channel import ChannelMetrics, decibels, nmse
from attar.recipe import Recipe
from attar.tasks.options import check_options
from attar.tasks.predictions import (
    INPUTS,
    Request,
    SamplePrediction,
    array_outputs,
    read_array,
    register_predictor,
)
from attar.tasks.registry import register_task


@register_task("channel", data=("sionna", "channels"))
@dataclass
class Channel:
    """Channels (B, 2, D, A), real and imaginary parts, reconstructed from codewords.

    >>> Channel().supervise()
    MSE(reduction='mean')
    """

    output: str = "channel"

    def supervise(self) -> Loss:
        """The mean squared error to the channel itself; every channel has mean square 1, so that it is the NMSE."""
        return MSE()

    def imitate(self, temperature: float) -> Loss:
        """The same to another network's reconstruction; channels have no temperature."""
        return MSE()

    def metrics(self) -> Metrics:
        """NMSE in dB decides."""
        return ChannelMetrics()

    def example(self) -> Batch:
        """Two channels of noise, 8 delays by 8 antennas."""
        channels = torch.randn(2, 2, 8, 8, generator=Address().generator("example"))
        return Batch(channels, channels.clone(), torch.arange(2), output=self.output)

    def load(self, recipe: Recipe) -> TensorSplits:
        """Channels simulated by `Simulation` (data=sionna), or those of a .npz file (data=channels data.root=FILE).

        `data.root` of simulated channels is the folder where they are kept, None that of downloads.
        """
        root = None if recipe.data.root is None else Path(recipe.data.root).expanduser()
        if recipe.data.name == "sionna":
            options = check_options(recipe, **vars(Simulation()))
            return read_channels(simulated(Simulation(**options), root))
        options = check_options(recipe, test_fraction=0.2)
        if root is None:
            raise AttarError("data=channels needs data.root=FILE.npz with inputs=(N, D, A), complex")
        return read_channels(root, **options)


@register_predictor("channel", arrays=True)
def reconstructed(request: Request) -> SamplePrediction:
    """Channels after the codeword, real and imaginary parts at the power they came with, and the NMSE of each in dB."""
    card, file = request.card, request.file
    channels, scale = parts(read_array(file), f"{INPUTS} of {file}")
    if list(channels.shape[1:]) != card["input_shape"]:
        raise AttarError(
            f"{file} holds channels {tuple(channels.shape[1:])}, the network takes {tuple(card['input_shape'])}; give "
            "channels of as many delays and antennas as in training"
        )
    outputs = array_outputs(request, channels)
    errors = nmse(outputs, channels)
    text = f"NMSE {decibels(float(errors.mean())):.2f} dB over {len(errors)} channels"
    found = outputs * scale.to(outputs)[:, None, None, None]
    return SamplePrediction(file, text, {"nmse": [decibels(one) for one in errors.tolist()], "outputs": found.tolist()})
