"""The score of an autoencoder of channels: the normalised mean squared error in dB."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attar.batch import Batch
from attar.errors import AttarError
from attar.metrics.base import Measure, Metrics, counted

# The least error that is told apart from none, so that a perfect reconstruction is a number: -300 dB.
LEAST = 1e-30


def nmse(found: Tensor, channels: Tensor) -> Tensor:
    """(B,) ||found - H||^2 / ||H||^2 of each channel, in float64; complex tensors, or the real and imaginary parts.

    >>> channels = torch.tensor([[[3.0 + 4.0j, 1.0j]]], dtype=torch.complex128)
    >>> parts = torch.view_as_real(channels).movedim(-1, 1)
    >>> round(decibels(nmse(0.9 * channels, channels).item()), 6), round(decibels(nmse(0.9 * parts, parts).item()), 6)
    (-20.0, -20.0)
    """
    wide = torch.complex128 if channels.is_complex() else torch.float64
    found, channels = found.to(wide), channels.to(wide)
    return (found - channels).abs().square().flatten(1).sum(1) / channels.abs().square().flatten(1).sum(1)


def decibels(ratio: float) -> float:
    """A ratio of powers in dB, -300 at the least.

    >>> decibels(0.01), decibels(0.0)
    (-20.0, -300.0)
    """
    return 10 * math.log10(max(ratio, LEAST))


class ChannelMetrics(Metrics):
    """NMSE = 10 log10 of the mean over the channels of ||H_s - H||^2 / ||H||^2, as the CSI literature has it.

    With a teacher, the same between the network's reconstruction and the teacher's.

    >>> metrics = ChannelMetrics()
    >>> channels = torch.ones(2, 2, 4, 4)
    >>> metrics.update(0.9 * channels, Batch(channels, channels))
    >>> round(metrics.compute()["nmse"], 3)
    -20.0
    """

    measures = (
        Measure("nmse", "NMSE dB", 1, 2, note="10 log10 of the mean of ||H_s - H||^2 / ||H||^2"),
        Measure("gap", "NMSE dB to teacher", 1, 2),
    )
    sample = "channel"

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        errors = nmse(output, batch.labels)
        weight = errors.new_ones(len(errors)) if batch.weight is None else batch.weight.double()
        sums = {"error": (errors * weight).sum(), "count": weight.sum()}
        if other is not None:
            sums["gap"] = (nmse(output, other) * weight).sum()
        return sums

    def compute(self) -> dict[str, float]:
        if not self.totals:
            raise AttarError("there are no channels to measure; give at least one batch")
        count = counted(float(self.totals["count"]), "channels")
        scores = {"nmse": decibels(float(self.totals["error"]) / count)}
        return scores | ({"gap": decibels(float(self.totals["gap"]) / count)} if "gap" in self.totals else {})
