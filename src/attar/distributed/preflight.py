"""Pre-flight check that the gradients of several processes equal those of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from attar.batch import Batch
from attar.data import DeviceLoader
from attar.data.loading.device_loader import Part
from attar.distributed.team import Objective, Team
from attar.knowledge import Losses
from attar.methods import Method
from attar.methods.common.trial import unchanged

# How many images each process takes, and how far the gradients may be apart (norm of the difference over the norm).
ROWS, TOLERANCE = 4, 0.01


class Sharing(Protocol):
    """A loader that can also give whole batches."""

    def whole(self) -> DeviceLoader: ...


def differs(method: Method, loader: Sharing, members: Team) -> str | None:
    """A warning where the gradient of a few images in several processes is not that of one process; both are computed.

    A method that draws random numbers for its slice differs, and so does a loss between samples that does not declare
    that it is one (`whole_batch = True`). The method is as before afterwards.
    """
    if members.size == 1:
        return None
    batch = next(loader.whole().epoch(0))
    count = min(ROWS, len(batch) // members.size)
    whole = batch.rows(slice(0, count * members.size))
    own = batch.rows(slice(count * members.rank, count * (members.rank + 1)))
    part = Part(**vars(own), start=count * members.rank, count=len(whole))
    shared, worst = Objective(method, members), 0.0
    for phase in method.phases:
        with unchanged(method):  # some remember what they saw
            alone = gradient(method, method.batch_losses, replace(whole, phase=phase))
        with unchanged(method):
            together = gradient(method, shared, replace(part, phase=phase)) / members.size
        dist.all_reduce(together)
        worst = max(worst, float((together - alone).norm() / alone.norm().clamp_min(1e-12)))
    if worst <= TOLERANCE:
        return None
    return (
        f"warning: in {members.size} processes {method.name!r} is not what it is in one: the gradients of {len(whole)} "
        f"images differ by {100 * worst:.0f} %, because something is drawn, or samples are compared, within each "
        "process's slice; the method is the same, its numbers are not"
    )


def gradient(method: Method, losses_of: Callable[[Batch], Losses], batch: Batch) -> Tensor:
    """All gradients of a batch as one vector, in training mode."""
    method.train().zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]):
        batch.address.seed_layers(batch.labels.device)
        losses_of(batch).total.backward()
    parameters = [p for p in method.parameters() if p.requires_grad]
    vector = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    method.zero_grad(set_to_none=True)
    return vector
