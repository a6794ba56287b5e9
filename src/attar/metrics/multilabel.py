"""The scores of labels that do not exclude each other: average precision, exact, and the share of right labels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from attar.batch import Batch
from attar.errors import AttarError
from attar.losses import binary_cross_entropy, binary_kl
from attar.metrics.base import Measure, Metrics, counted

LABELS = Measure("label_accuracy", "labels right %", 100, 2, higher=True)


def average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """(K,) the average precision of each column, sum over n of (R_n - R_n-1) P_n, as scikit-learn has it.

    Rows of one score share a threshold. There is no interpolation. A column without a true row is NaN.

    Args:
        scores: (N, K), the higher the surer.
        truth: (N, K), bool.

    >>> average_precision(torch.tensor([[0.1], [0.4], [0.35], [0.8]]), torch.tensor([[0], [0], [1], [1]]).bool()).item()
    0.8333333333333333
    """
    scores, order = scores.sort(dim=0, descending=True)
    truth = truth.gather(0, order).double()
    place = torch.arange(1, len(scores) + 1, device=scores.device)[:, None]
    precision = truth.cumsum(0) / place
    # Each row has the precision at the last one of its score.
    tied = torch.cat([scores[1:] == scores[:-1], torch.zeros_like(truth[:1], dtype=torch.bool)])
    last = place.masked_fill(tied, len(scores)).flip(0).cummin(0).values.flip(0) - 1
    return (truth * precision.gather(0, last)).sum(0) / truth.sum(0)


class MultilabelMetrics(Metrics):
    """Macro mAP (the mean over labels), micro AP (all labels in one list), right labels, cross-entropy, fidelity.

    Average precision needs the outputs of all rows, so these are kept on the device until `compute`. Labels that no row
    has do not count in the macro mean. Rows whose `Batch.weight` is 0 do not count, and all others count alike.

    >>> metrics = MultilabelMetrics()
    >>> logits = torch.tensor([[2.0, -1.0], [-2.0, 1.0], [3.0, 2.0]])
    >>> metrics.update(logits, Batch(torch.zeros(3, 1), torch.tensor([[1, 0], [0, 0], [1, 1]]).bool()))
    >>> {name: round(score, 3) for name, score in metrics.compute().items()}
    {'map': 1.0, 'micro_map': 1.0, 'label_accuracy': 0.833, 'bce': 0.343}
    """

    measures = (
        Measure("map", "mAP %", 100, 2, higher=True, note="mAP: average precision, the mean over labels."),
        Measure(
            "micro_map",
            "micro mAP %",
            100,
            2,
            higher=True,
            note="Micro mAP: average precision, all labels in one list.",
        ),
        LABELS,
        Measure("bce", "BCE", 1, 4, watched=True),
        Measure("agreement", "agrees %", 100, 1, higher=True, note="Agrees: labels on the teacher's side of 1/2."),
        Measure("kl", "KL to teacher", 1, 4, column=False),
    )
    sample = "image"
    joined: ClassVar[frozenset[str]] = frozenset({"outputs", "truth"})

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        output, truth, other = that_count(output, batch, other)
        found = {
            **right_labels(output, truth),
            "bce": binary_cross_entropy(output.double(), truth, "sum"),
            "outputs": output,
            "truth": truth,
        }
        if other is not None:
            found["agreement"] = ((output > 0) == (other > 0)).double().sum()
            found["kl"] = binary_kl(output.double(), other.double(), reduction="sum")
        return found

    def compute(self) -> dict[str, float]:
        if not self.totals:
            raise AttarError("there are no images to measure; give at least one batch")
        outputs, truth = self.totals["outputs"].double(), self.totals["truth"]
        count, nan = counted(float(self.totals["count"]), "images"), bool(outputs.isnan().any())
        each, whole = average_precision(outputs, truth), average_precision(outputs.view(-1, 1), truth.view(-1, 1))
        scores = {
            "map": float("nan") if nan else float(each.nanmean()),
            "micro_map": float("nan") if nan else float(whole),
            "label_accuracy": float(self.totals["right"]) / count,
            "bce": float(self.totals["bce"]) / count,
        }
        further = ("agreement", "kl") if "kl" in self.totals else ()
        return scores | {name: float(self.totals[name]) / count for name in further}

    def running(self) -> Metrics:
        return LabelAccuracy()


class LabelAccuracy(Metrics):
    """The share of right labels alone, for every step of training: one is predicted where its probability is over 1/2.

    >>> metrics = LabelAccuracy()
    >>> metrics.update(torch.tensor([[2.0, 1.0]]), Batch(torch.zeros(1, 1), torch.tensor([[True, False]])))
    >>> metrics.compute()
    {'label_accuracy': 0.5}
    """

    measures = (LABELS,)
    sample = "image"

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        output, truth, _ = that_count(output, batch)
        return right_labels(output, truth)

    def compute(self) -> dict[str, float]:
        if not self.totals:
            raise AttarError("there are no images to measure; give at least one batch")
        return {"label_accuracy": float(self.totals["right"]) / counted(float(self.totals["count"]), "images")}


def that_count(output: Tensor, batch: Batch, other: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Outputs and labels of the rows that count, and the teacher's outputs for them."""
    if batch.weight is None:
        return output, batch.labels, other
    rows = batch.weight > 0
    return output[rows], batch.labels[rows], None if other is None else other[rows]


def right_labels(output: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """How many labels are right, of how many."""
    right = ((output > 0) == truth).double()
    return {"right": right.sum(), "count": torch.ones_like(right).sum()}
