"""Channels of 3GPP TR 38.901, simulated by Sionna and kept in a file, so that each set is simulated once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.data.sources.download import data_root
from attar.errors import AttarError, unknown
from attar.extras import quiet, require
from attar.files import write_atomically

# The classes of Sionna by the names that it has for its scenarios.
SCENARIOS = {"umi": "UMi", "uma": "UMa"}
CARRIER = 3.5e9
SUBCARRIERS = 64
# Users that are simulated at a time: they take about 1 GB.
PART = 250


@dataclass(frozen=True)
class Simulation:
    """What a set of simulated channels follows from.

    Each user stands somewhere else in one sector of a cell, outdoors and still, and has the clusters that the standard
    draws for that place. The base station has a row of antennas at half a wavelength; the user has one. The channel on
    64 subcarriers is brought to delays by an inverse FFT, of which the first `delays` are kept, and to angles by an FFT
    over the antennas, as CsiNet's are.

    Attributes:
        scenario: "umi" (street canyons, line of sight or not) or "uma" (macro cells).
        samples: how many channels; the last fifth is tested on.
        delays: D, of 1 / bandwidth each.
        antennas: A, of the base station.
        bandwidth: in Hz.
        seed: of the simulation.
    """

    scenario: str = "umi"
    samples: int = 10_000
    delays: int = 16
    antennas: int = 32
    bandwidth: float = 20e6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise unknown("data.scenario", self.scenario, SCENARIOS)
        limits = {"samples": (10, 10**7), "delays": (1, SUBCARRIERS), "antennas": (1, 1024), "seed": (0, 2**31)}
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise AttarError(f"data.{name} must be {least} to {most}, got {getattr(self, name)}")
        if not self.bandwidth > 0:
            raise AttarError(f"data.bandwidth must be above 0 Hz, got {self.bandwidth}")

    @property
    def file(self) -> str:
        """The name of the file that holds the set.

        >>> Simulation().file
        'umi-10000x16x32-20MHz-seed0.npz'
        """
        sizes = f"{self.samples}x{self.delays}x{self.antennas}"
        return f"{self.scenario}-{sizes}-{self.bandwidth / 1e6:g}MHz-seed{self.seed}.npz"


def simulated(simulation: Simulation, folder: Path | None = None) -> Path:
    """The file of a set, simulated and written first where it is not there.

    Args:
        simulation: which set.
        folder: where the file is kept; None: where downloads are.

    Raises:
        AttarError: Sionna is missing, or the file cannot be written.
    """
    file = (folder or data_root() / "channels") / simulation.file
    if not file.is_file():
        channels = torch.cat(list(drops(simulation))).numpy()
        kept = simulation.samples - simulation.samples // 5

        def write(temporary: Path) -> None:
            with temporary.open("wb") as stream:  # given a path, numpy would add a suffix to its name
                np.savez(stream, inputs=channels[:kept], test=channels[kept:])

        write_atomically(file, write)
    return file


def drops(simulation: Simulation) -> Iterator[Tensor]:
    """The channels (n, D, A) of one part after the other, complex; torch's own generator stays as it is."""
    with torch.random.fork_rng(devices=[]), quiet():
        phy = require("sionna.phy", "data=sionna", "channel")
        channel, models = phy.channel, require("sionna.phy.channel.tr38901", "data=sionna", "channel")
        on_cpu = {"carrier_frequency": CARRIER, "device": "cpu"}
        element: dict[str, Any] = {"polarization": "single", "polarization_type": "V", **on_cpu}
        station = models.AntennaArray(1, simulation.antennas, antenna_pattern="38.901", **element)
        user = models.AntennaArray(1, 1, antenna_pattern="omni", **element)
        model = getattr(models, SCENARIOS[simulation.scenario])(
            o2i_model="low", ut_array=user, bs_array=station, direction="downlink",
            enable_pathloss=False, enable_shadow_fading=False, **on_cpu,
        )  # fmt: skip
        for number, start in enumerate(range(0, simulation.samples, PART)):
            # Each part has a seed of its own, so that a larger set begins with the smaller one.
            phy.config.seed = 1_000_003 * simulation.seed + number
            still = {"min_ut_velocity": 0.0, "max_ut_velocity": 0.0, "indoor_probability": 0.0, "device": "cpu"}
            model.set_topology(*channel.gen_single_sector_topology(PART, 1, simulation.scenario, **still))
            gains, delays = model(num_time_samples=1, sampling_frequency=1.0)
            part = angular(gains[:, 0, 0, 0, :, :, 0], delays[:, 0, 0], simulation)
            yield part[: simulation.samples - start]


def angular(gains: Tensor, delays: Tensor, simulation: Simulation) -> Tensor:
    """Paths as channels (N, D, A) by delay and angle.

    Args:
        gains: (N, A, P) complex, of each path at each antenna.
        delays: (N, P) in seconds.
        simulation: whose bandwidth and number of delays.

    >>> one = angular(torch.ones(1, 4, 1) + 0j, torch.tensor([[2 / 20e6]]), Simulation(delays=4, antennas=4))
    >>> one.abs().round(decimals=3)[0].argmax().item(), round(one.abs().square().sum().item(), 3)
    (8, 4.0)
    """
    frequencies = torch.arange(SUBCARRIERS) * (simulation.bandwidth / SUBCARRIERS)
    turns = torch.exp(-2j * math.pi * delays[..., None] * frequencies)
    taps = torch.fft.ifft(turns, dim=-1)[..., : simulation.delays]
    return torch.fft.fft(torch.einsum("nap,npd->nda", gains, taps), dim=-1, norm="ortho")
