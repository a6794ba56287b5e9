"""The scores of a text classifier: accuracy, F1 and Matthews' correlation, as GLUE has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from attar.batch import Batch
from attar.metrics.base import Measure, Metrics
from attar.metrics.classification import ClassificationMetrics, Top1
from attar.metrics.confusion_matrix import confusion_matrix, matthews, mean_f1
from attar.metrics.predictions import predictions_of

ACCURACY = Measure("accuracy", "accuracy %", 100, 2, higher=True, share=True)
KEPT = ("nll", "ece", "agreement", "kl")
F1 = "F1: of the second class where there are two, as GLUE has it, else the mean of the classes'."


class SentenceMetrics(Metrics):
    """Accuracy, F1, Matthews' correlation, NLL and calibration; with a teacher its agreement and the KL to it.

    >>> import torch
    >>> metrics = SentenceMetrics()
    >>> logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> metrics.update(logits, Batch(logits, torch.tensor([0, 1, 1, 1])))
    >>> found = metrics.compute()
    >>> found["accuracy"], round(found["f1"], 4), round(found["matthews"], 4)
    (0.75, 0.8, 0.5774)
    """

    measures = (
        ACCURACY,
        Measure("f1", "F1 %", 100, 2, higher=True, note=F1),
        Measure("matthews", "Matthews", 100, 2, higher=True, note="Matthews: 100 times the correlation, 0 for chance."),
        Measure("nll", "NLL", 1, 3, watched=True),
        Measure("ece", "ECE %", 100, 1),
        Measure("agreement", "agrees %", 100, 1, higher=True, note="Agrees: sentences with the teacher's prediction."),
        Measure("kl", "KL to teacher", 1, 3, column=False),
    )
    sample = "sentence"

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        return {**ClassificationMetrics().sums(output, batch, other), **confusion_matrix(output, batch)}

    def compute(self) -> dict[str, float]:
        scores = ClassificationMetrics(self.totals).scores()
        table = {"table": self.totals["table"].cpu()}
        kept = {name: getattr(scores, name) for name in KEPT if getattr(scores, name) is not None}
        return {"accuracy": scores.top1, "f1": f1(table), "matthews": matthews(table), **kept}

    def record(self, count: int) -> dict[str, Any]:
        """Every score, the accuracy of each class too."""
        return {**super().record(count), "per_class": list(ClassificationMetrics(self.totals).scores().per_class)}

    def each(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        return predictions_of(batch.labels, output, other)

    def running(self) -> Metrics:
        return Accuracy()


class Accuracy(Top1):
    """The accuracy alone, for every step of training."""

    measures = (ACCURACY,)
    sample = "sentence"

    def compute(self) -> dict[str, float]:
        return {"accuracy": super().compute()["top1"]}


def f1(sums: Mapping[str, Tensor]) -> float:
    """2 TP / (2 TP + FP + FN) of the second of two classes, 0 where it is neither there nor predicted; else the mean.

    >>> import torch
    >>> f1({"table": torch.tensor([[1.0, 1.0], [1.0, 3.0]])})
    0.75
    """
    table = sums["table"]
    if len(table) != 2:
        return mean_f1(sums)
    total = float(table[1].sum() + table[:, 1].sum())
    return 2 * float(table[1, 1]) / total if total else 0.0
