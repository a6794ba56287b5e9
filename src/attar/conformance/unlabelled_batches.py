"""Whether a method can be shown images without labels, found by trying."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from attar.batch import Batch, seed_global_generators
from attar.errors import AttarError
from attar.knowledge import owner
from attar.methods.base import Method

# For the message; each of them passes.
FIT = ("kd", "at", "rkd", "fitnet", "simkd", "sokd", "dml")
# Two passes over one batch agree this far on an accelerator, and to the bit on the CPU.
TOLERANCE = 1e-3


def learns_without_labels(method: Method) -> bool:
    """Whether some edge has another source than the labels; otherwise images without labels teach nothing.

    >>> from attar.methods import create_method
    >>> from attar.models import create_model
    >>> learns_without_labels(create_method("supervised", student=create_model("resnet8")))
    False
    """
    return any(owner(edge.source) != "labels" for edge in method.edges)


def check_unlabelled(method: Method, batch: Batch) -> None:
    """No loss may follow from the labels that rows without one are given here; the method is as before afterwards.

    An edge from the labels compares only the rows that have one. A method can read labels elsewhere too, in `given` or
    in its forward pass; so it is not asked but tried, with two sets of made-up labels for those rows.

    Args:
        method: on the batch's device.
        batch: the first `batch.labelled` rows have labels.

    Raises:
        AttarError: a loss changed.
    """
    if batch.labelled is None:
        return
    for phase in method.phases:
        losses, others = (terms(method, replace(batch, labels=made_up(batch, label), phase=phase)) for label in (0, 1))
        for key, loss in losses.items():
            if not same(loss, others[key]):
                raise AttarError(
                    f"method {method.name!r} cannot learn from images without labels: its edge {key!r} reads the label "
                    f"of every image; choose one that does not ({', '.join(FIT)}), or leave data.unlabelled out"
                )


def made_up(batch: Batch, label: int) -> Tensor:
    """The labels, with one class for all rows that have none."""
    labels = batch.labels.clone()
    labels[batch.labelled :] = label
    return labels


def same(loss: Tensor, other: Tensor) -> bool:
    """Whether two passes over one batch, as far as they agree, gave one number."""
    near = 0.0 if loss.device.type == "cpu" else TOLERANCE
    return torch.allclose(loss, other, rtol=near, atol=0.0, equal_nan=True)


@torch.no_grad()
def terms(method: Method, batch: Batch) -> dict[str, Tensor]:
    """Each edge's loss, from the same state and the same random numbers every time."""
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        seed_global_generators(0, batch.labels.device)
        try:
            return method.batch_losses(batch).terms
        finally:
            method.load_state_dict(state)
