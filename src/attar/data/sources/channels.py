"""Channels between antennas: read from a .npz file, brought to one power, the phase turned in training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attar.batch import Inputs
from attar.data.tensor_set import TensorSet, TensorSplits
from attar.errors import AttarError
from attar.records import read_arrays

# The arrays of a file: channels to train on, and to test on.
INPUTS, TEST = "inputs", "test"
REMEDY = f"give a .npz with {INPUTS}=(N, D, A) complex, or (N, 2, D, A) real and imaginary parts"


def read_channels(file: Path, test_fraction: float = 0.2) -> TensorSplits:
    """The channels of a file: its array "inputs" is trained on, its array "test" tested on.

    Args:
        file: a .npz; channels are complex (N, D, A), delays by antennas say, or real and imaginary parts (N, 2, D, A).
        test_fraction: where the file has no "test", so much of "inputs", its end, is tested on (0.2, ours).

    Raises:
        AttarError: the file is missing, damaged or without "inputs", channels have another shape, hold NaN or are all
            zero, or test_fraction leaves one of the two sets empty.
    """
    arrays = read_arrays(file, REMEDY)
    if INPUTS not in arrays:
        raise AttarError(f"{file} has no array {INPUTS!r}, it has {', '.join(arrays) or 'none'}; {REMEDY}")
    train, _ = parts(arrays[INPUTS], f"{INPUTS} of {file}")
    if TEST in arrays:
        return splits(train, parts(arrays[TEST], f"{TEST} of {file}")[0], file.stem)
    kept = len(train) - round(test_fraction * len(train))
    if not 0 < kept < len(train):
        raise AttarError(f"data.test_fraction={test_fraction} leaves {kept} of {len(train)} channels to train on")
    return splits(train[:kept], train[kept:], file.stem)


def parts(channels: np.ndarray, name: str) -> tuple[Tensor, Tensor]:
    """Channels as real and imaginary parts (N, 2, D, A) with a mean square of 1 each, and the factors (N,) to get back.

    NMSE does not depend on a channel's power; with equal powers the mean squared error is the NMSE.

    Raises:
        AttarError: another shape, no channels, NaN, or a channel of zeros.

    >>> found, scale = parts(np.array([[[3.0 + 4.0j]]]), "one")
    >>> round(float(found.square().mean()), 6), round(float(scale), 4)
    (1.0, 3.5355)
    """
    if channels.dtype.kind not in "fc":
        raise AttarError(f"{name} holds {channels.dtype}, no complex or real numbers; {REMEDY}")
    held = torch.from_numpy(np.ascontiguousarray(channels))
    if held.is_complex():
        if held.ndim != 3:
            raise AttarError(f"{name} is complex of shape {tuple(held.shape)}, expected (N, D, A); {REMEDY}")
        held = torch.view_as_real(held).movedim(-1, 1)
    if held.ndim != 4 or held.shape[1] != 2:
        raise AttarError(f"{name} is real of shape {tuple(held.shape)}, expected (N, 2, D, A); {REMEDY}")
    if not held.numel():
        raise AttarError(f"{name} holds no channels, its shape is {channels.shape}; {REMEDY}")
    held = held.double()
    power = held.square().mean((1, 2, 3))
    for bad, what in ((~torch.isfinite(power), "NaN or infinity"), (power == 0, "zeros alone")):
        if bad.any():
            raise AttarError(f"{name} holds {what} in channel {int(bad.nonzero()[0])}; repair or remove it")
    scale = power.sqrt()
    return (held / scale[:, None, None, None]).float().contiguous(), scale


def splits(train: Tensor, test: Tensor, name: str) -> TensorSplits:
    """The two sets of an autoencoder: channels that are their own labels.

    Raises:
        AttarError: channels to test on have another shape.
    """
    first, second = (TensorSet(one, one, name, outputs=2, vary=turned) for one in (train, test))
    return TensorSplits(first, second)


def turned(channels: Inputs, labels: Tensor, draws: Tensor) -> tuple[Inputs, Tensor]:
    """Channels and labels, each turned by a phase of its own: where a phase starts means nothing.

    >>> one = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    >>> [round(number, 3) for number in turned(one, one, torch.tensor([[0.25]]))[1].flatten().tolist()]
    [-0.0, 1.0]
    """
    assert isinstance(channels, Tensor)
    angle = 2 * math.pi * draws[:, 0, None, None, None]
    cos, sin = angle.cos(), angle.sin()

    def turn(parts: Tensor) -> Tensor:
        real, imaginary = parts.chunk(2, 1)
        return torch.cat([cos * real - sin * imaginary, sin * real + cos * imaginary], 1)

    return turn(channels), turn(labels)
