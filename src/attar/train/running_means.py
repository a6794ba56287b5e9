"""Sums over an epoch, kept on the device until they are read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attar.batch import Batch
from attar.knowledge import Losses
from attar.metrics.base import counted, to_be_scored
from attar.tasks import Task


class RunningMeans:
    """Running means of the loss, its terms and the primary measure of the student; adding waits for nothing.

    Losses are averaged over what counts (`Batch.weight`), over rows where every entry counts alike.

    Args:
        task: whose metrics score the student.
        state: sums to go on from.
    """

    def __init__(self, task: Task, state: dict[str, Any] | None = None) -> None:
        self.sums: dict[str, Tensor] = dict(state or {})
        self.task = task
        self._metrics = self.task.metrics().running()

    @torch.no_grad()
    def add(self, losses: Losses, batch: Batch, first_phase: bool = True) -> None:
        """Count one batch; the later phases of a method add their losses but not the rows again."""
        weight = None if batch.weight is None else batch.weight.sum().float()
        values = {"loss": losses.total, **{f"terms/{key}": term for key, term in losses.terms.items()}}
        for key, value in values.items():
            self._add(key, value.detach(), len(batch), weight)
        if not first_phase:
            return
        # Made on the device: a number brought there would wait for it.
        self._add("images", torch.ones((), device=batch.device), len(batch), weight)
        output = losses.knowledge.get(f"student.{self.task.output}")
        if isinstance(output, Tensor) and len(output) == len(batch):
            for key, amount in self._metrics.sums(*to_be_scored(output, batch)).items():
                self._add(f"metric/{key}", amount)

    def _add(self, key: str, amount: Tensor, rows: int = 1, weight: Tensor | None = None) -> None:
        if weight is not None:
            amount, rows = amount * weight, 1
        if key not in self.sums:
            self.sums[key] = amount.float() * rows
        else:  # those of a resumed epoch come from the CPU
            self.sums[key] = self.sums[key].to(amount.device).add_(amount, alpha=rows)

    def means(self) -> dict[str, Any]:
        """What the epoch came to; this waits for the device."""
        count = counted(float(self.sums["images"]), "entries of an epoch")
        terms = {key[6:]: float(total) / count for key, total in self.sums.items() if key.startswith("terms/")}
        means: dict[str, Any] = {"loss": float(self.sums["loss"]) / count, "terms": terms}
        self._metrics.totals = {key[7:]: total for key, total in self.sums.items() if key.startswith("metric/")}
        if self._metrics.totals:
            primary = self._metrics.primary
            means[f"train_{primary.name}"] = primary.scale * self._metrics.compute()[primary.name]
        return means
