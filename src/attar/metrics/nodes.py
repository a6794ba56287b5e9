"""The scores of a classifier of nodes: over the nodes that count."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.batch import Batch
from attar.errors import AttarError
from attar.losses import kl_divergence
from attar.metrics.base import Measure, Metrics, counted


class NodeMetrics(Metrics):
    """Accuracy, macro F1 and negative log-likelihood; with a teacher its agreement and KL a node.

    Nodes whose `Batch.weight` is 0 do not count. Macro F1 is the mean over the classes that some node has or is taken
    for, as in scikit-learn.

    >>> import torch
    >>> metrics = NodeMetrics()
    >>> metrics.update(torch.eye(3)[None], Batch(torch.zeros(1, 3), torch.tensor([[0, 1, 1]])))
    >>> {name: round(value, 3) for name, value in metrics.compute().items()}
    {'accuracy': 0.667, 'f1': 0.556, 'nll': 0.885}
    """

    measures = (
        Measure("accuracy", "accuracy %", 100, 2, higher=True, share=True),
        Measure("f1", "macro F1 %", 100, 2, higher=True, watched=True),
        Measure("nll", "NLL", 1, 3, watched=True),
        Measure("agreement", "agrees %", 100, 1, higher=True, note="Agrees: nodes with the teacher's prediction."),
        Measure("kl", "KL", 1, 3, column=False),
    )
    sample = "graph"
    entry = "node"

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        logits, labels = output.flatten(0, 1).double(), batch.labels.flatten()
        counts = torch.ones_like(labels, dtype=torch.bool) if batch.weight is None else batch.weight.flatten() > 0
        weight, predicted, classes = counts.double(), logits.argmax(1), logits.shape[1]
        sums = {
            "confusion": weight.new_zeros(classes**2).index_add(0, labels * classes + predicted, weight),
            "nll": (F.cross_entropy(logits, labels, reduction="none") * weight).sum(),
        }
        if other is not None:
            theirs = other.flatten(0, 1).double()
            sums["agreement"] = ((predicted == theirs.argmax(1)) * weight).sum()
            sums["kl"] = kl_divergence(logits, theirs, temperature=1.0, reduction="sum", weight=weight)
        return sums

    def compute(self) -> dict[str, float]:
        if not self.totals:
            raise AttarError("there are no nodes to measure; give at least one graph")
        flat = self.totals["confusion"].cpu()
        confusion, count = flat.view(round(len(flat) ** 0.5), -1), counted(float(flat.sum()), "nodes")
        right, seen = confusion.diagonal(), confusion.sum(0) + confusion.sum(1)
        means = {name: float(total) / count for name, total in self.totals.items() if name != "confusion"}
        f1 = (2 * right / seen)[seen > 0].mean()
        return {"accuracy": float(right.sum()) / count, "f1": float(f1), **means}

    def record(self, count: int) -> dict[str, Any]:
        """Of the nodes that count, whatever the number of graphs."""
        return {"count": round(float(self.totals["confusion"].sum())), **self.compute()}
