"""Some images of a batch, drawn at random, and their labels: for methods that change these for the student."""

from __future__ import annotations

import torch
from torch import Tensor

from attar.batch import Batch, upload
from attar.errors import AttarError


def drawn_rows(batch: Batch, purpose: str, probability: float) -> Tensor:
    """The numbers of the rows that are drawn, each with this probability.

    >>> drawn_rows(Batch(torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64)), "erase", 1.0).tolist()
    [0, 1, 2, 3]
    """
    # Drawn on the CPU: how many they are is then known without waiting for the device.
    draws = torch.rand(batch.whole, generator=batch.address.generator(purpose))
    return upload([batch.own(draws < probability).nonzero().flatten()], batch.device)[0]


def require_class_numbers(method: str, batch: Batch) -> None:
    """Refuse a batch with images that have no label, or several."""
    if batch.labelled is not None or batch.mixed:
        raise AttarError(
            f"{method} attributes the teacher's prediction of each image's own class; leave data.unlabelled and mixed "
            "images out"
        )


def check_probability(method: str, name: str, probability: float) -> None:
    """Refuse a number outside 0..1."""
    if not 0 <= probability <= 1:
        raise AttarError(f"{method}: {name}={probability} is no probability; give a number from 0 to 1")
