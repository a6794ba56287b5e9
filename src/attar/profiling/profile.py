"""Everything a network costs in one record, for one image and for a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from attar.errors import AttarError, first_line
from attar.profiling.cost import Latency, Sample, file_size, latency, macs, parameters
from attar.profiling.memory import peak_memory


@dataclass(frozen=True)
class Profile:
    """What `profile` found.

    Attributes:
        parameters: numbers that the network learns.
        macs: multiply-accumulates of one image.
        bytes: of the weights as safetensors.
        batch: images in the larger pass.
        latency: milliseconds of a pass with one image.
        batch_latency: milliseconds of a pass with `batch` images.
        memory: peak bytes of one image and its activations, the weights not counted; it grows with the batch.
        threads: how many the CPU's operators ran on.
    """

    parameters: int
    macs: int
    bytes: int
    batch: int
    latency: Latency
    batch_latency: Latency
    memory: int
    threads: int


def profile(net: nn.Module, image_shape: Sample, batch: int = 32) -> Profile:
    """Parameters, multiply-accumulates, latency, peak memory and file size of a network, on the device it is on.

    Args:
        net: any network that takes (N, *image_shape).
        image_shape: (C, H, W); or the inputs of one sample.
        batch: images in the larger pass.

    Raises:
        AttarError: the network does not take such images, or batch is below 1.

    >>> profile(nn.Linear(4, 2, bias=False), (4,), batch=8).macs
    8
    """
    if not isinstance(net, nn.Module):
        raise AttarError(f"expected a network, got {net!r}; make one of a name by attar.create_model")
    if isinstance(image_shape, list):
        image_shape = tuple(image_shape)
    if batch < 1:
        raise AttarError(f"batch is {batch}; give 1 or more images")
    try:
        operations = macs(net, image_shape)
    except (RuntimeError, TypeError, IndexError) as error:
        reason = first_line(error)
        what = f"images of {image_shape}" if isinstance(image_shape, tuple) else "this sample"
        raise AttarError(f"the network does not take {what}: {reason}") from None
    return Profile(
        parameters=parameters(net),
        macs=operations,
        bytes=file_size(net),
        batch=batch,
        latency=latency(net, image_shape),
        batch_latency=latency(net, image_shape, batch),
        memory=peak_memory(net, image_shape),
        threads=torch.get_num_threads(),
    )
