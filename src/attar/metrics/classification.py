"""The scores of a classifier as a metrics object."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from attar.batch import Batch
from attar.errors import AttarError
from attar.metrics.accuracy import Scores, scores_of, sums_of
from attar.metrics.base import Measure, Metrics, counted
from attar.metrics.predictions import predictions_of

TOP1 = Measure("top1", "top-1 %", 100, 2, higher=True, share=True)


class ClassificationMetrics(Metrics):
    """Accuracy, calibration and fidelity, the numbers of `attar.metrics.evaluate`.

    Rows whose `Batch.weight` is 0 do not count; other weights are refused, because these are counts.

    >>> import torch
    >>> metrics = ClassificationMetrics()
    >>> metrics.update(torch.eye(4), Batch(torch.eye(4), torch.tensor([0, 1, 2, 2])))
    >>> metrics.compute()["top1"]
    0.75
    """

    measures = (
        TOP1,
        Measure("top5", "top-5 %", 100, 1, higher=True),
        Measure("nll", "NLL", 1, 3, watched=True),
        Measure("ece", "ECE %", 100, 1),
        Measure("brier", "Brier", 1, 3, column=False),
        Measure("agreement", "agrees %", 100, 1, higher=True, note="Agrees: images with the teacher's prediction."),
        Measure("kl", "KL to teacher", 1, 3, column=False),
    )
    sample = "image"

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        labels = batch.labels
        if batch.weight is not None:
            rows = batch.weight > 0
            if not bool(rows.any()):
                one = sums_of(output[:1], labels[:1].clamp_min(0), None if other is None else other[:1])
                return {name: torch.zeros_like(amount) for name, amount in one.items()}
            output, labels, other = output[rows], labels[rows], None if other is None else other[rows]
        return sums_of(output, labels, other)

    def scores(self) -> Scores:
        """The numbers with those of each class.

        Raises:
            AttarError: nothing was counted yet.
        """
        if not self.totals:
            raise AttarError("there are no samples to measure; give at least one batch")
        totals = {name: total.cpu() for name, total in self.totals.items()}
        return scores_of(totals, int(counted(int(totals["seen"].sum()), "samples")))

    def compute(self) -> dict[str, float]:
        kept = {measure.name for measure in self.measures}
        return {name: value for name, value in asdict(self.scores()).items() if name in kept and value is not None}

    def record(self, count: int) -> dict[str, Any]:
        """Every score, those of each class too."""
        found = asdict(self.scores())
        return {**found, "per_class": list(found["per_class"])}

    def each(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        return predictions_of(batch.labels, output, other)

    def running(self) -> Metrics:
        return Top1()


class Top1(Metrics):
    """Top-1 alone, for every step of training: rows without a label do not count.

    A mixed image counts as correct where the network names the class that has the larger share of it.

    >>> import torch
    >>> metrics = Top1()
    >>> metrics.update(torch.eye(3), Batch(torch.eye(3), torch.tensor([0, 2, -1]), labelled=2))
    >>> metrics.compute()
    {'top1': 0.5}
    """

    measures = (TOP1,)
    sample = "image"

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        truth = batch.labels.argmax(1) if batch.mixed else batch.labels
        correct = (output.argmax(1) == truth)[: batch.labelled].float()
        # Made on the device: a number brought there would wait for it.
        counts = correct.new_ones(len(correct)) if batch.weight is None else (batch.weight > 0)[: batch.labelled]
        return {"correct": (correct * counts).sum(), "count": counts.sum().float()}

    def compute(self) -> dict[str, float]:
        if not self.totals:
            raise AttarError("there are no samples to measure; give at least one batch")
        return {"top1": float(self.totals["correct"]) / counted(float(self.totals["count"]), "samples")}
