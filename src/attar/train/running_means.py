"""Sums over an epoch, kept on the device until somebody looks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attar.batch import Batch
from attar.knowledge import Losses


class RunningMeans:
    """Running means of the loss, its terms and the student's accuracy on labelled images; adding waits for nothing.

    A mixed image counts as correct where the student names the class that has the larger share of it.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.sums: dict[str, Tensor] = dict(state or {})

    @torch.no_grad()
    def add(self, losses: Losses, batch: Batch, first_phase: bool = True) -> None:
        """Count one batch; the later phases of a method add their losses but not the images again."""
        values = {"loss": losses.total, **{f"terms/{key}": term for key, term in losses.terms.items()}}
        for key, value in values.items():
            self._add(key, value.detach(), len(batch))
        if not first_phase:
            return
        # Made on the device: a number brought there would wait for it.
        one = torch.ones((), device=batch.device)
        self._add("images", one, len(batch))
        logits = losses.knowledge.get("student.logits")
        if isinstance(logits, Tensor) and len(logits) == len(batch):
            truth = batch.labels.argmax(1) if batch.mixed else batch.labels
            self._add("correct", (logits.argmax(1) == truth)[: batch.labelled].sum())
            if batch.labelled is not None:
                self._add("labelled", one, batch.labelled)

    def _add(self, key: str, amount: Tensor, times: int = 1) -> None:
        if key not in self.sums:
            self.sums[key] = amount.float() * times
        else:  # those of a resumed epoch come from the CPU
            self.sums[key] = self.sums[key].to(amount.device).add_(amount, alpha=times)

    def means(self) -> dict[str, Any]:
        """What the epoch came to; this waits for the device."""
        count = float(self.sums["images"])
        terms = {key[6:]: float(total) / count for key, total in self.sums.items() if key.startswith("terms/")}
        means: dict[str, Any] = {"loss": float(self.sums["loss"]) / count, "terms": terms}
        if "correct" in self.sums:
            means["train_top1"] = 100 * float(self.sums["correct"]) / float(self.sums.get("labelled", count))
        return means
