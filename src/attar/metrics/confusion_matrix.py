"""Metrics of a classifier that count every class alike, from the confusion matrix of the set."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from attar.batch import Batch
from attar.metrics.registry import register_metric


def confusion_matrix(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """(K, K) counts of labels, down, and predictions, across, of the rows that count."""
    classes = logits.shape[1]
    counted = (
        torch.ones_like(batch.labels, dtype=torch.float64) if batch.weight is None else (batch.weight > 0).double()
    )
    pairs = batch.labels * classes + logits.argmax(1)
    table = torch.zeros(classes * classes, dtype=torch.float64, device=logits.device)
    return {"table": table.index_add_(0, pairs, counted).view(classes, classes)}


def mean_recall(sums: Mapping[str, Tensor]) -> float:
    """The mean over classes of the share of its images that are right; classes without images do not count.

    >>> mean_recall({"table": torch.tensor([[3.0, 1.0], [0.0, 1.0]])})
    0.875
    """
    table = sums["table"]
    present = table.sum(1) > 0
    return float((table.diagonal()[present] / table.sum(1)[present]).mean())


def mean_f1(sums: Mapping[str, Tensor]) -> float:
    """The mean over classes of 2 TP / (2 TP + FP + FN); classes neither present nor predicted do not count.

    >>> round(mean_f1({"table": torch.tensor([[3.0, 1.0], [0.0, 1.0]])}), 4)
    0.7619
    """
    table = sums["table"]
    total = table.sum(0) + table.sum(1)
    return float((2 * table.diagonal()[total > 0] / total[total > 0]).mean())


def matthews(sums: Mapping[str, Tensor]) -> float:
    """Matthews' correlation of labels and predictions, of K classes that of Gorodkin (2004); 0 where one is constant.

    >>> round(matthews({"table": torch.tensor([[1.0, 0.0], [1.0, 2.0]])}), 4)
    0.5774
    """
    table = sums["table"]
    count, true, predicted = table.sum(), table.sum(1), table.sum(0)
    covariance = count * table.diagonal().sum() - (true * predicted).sum()
    spread = (count**2 - true.square().sum()) * (count**2 - predicted.square().sum())
    return float(covariance / spread.sqrt()) if spread > 0 else 0.0


balanced_accuracy = register_metric(
    "balanced_accuracy",
    title="balanced %",
    compute=mean_recall,
    scale=100,
    digits=1,
    note="Balanced: the mean of the classes' recalls.",
)(confusion_matrix)
macro_f1 = register_metric(
    "macro_f1", title="macro F1 %", compute=mean_f1, scale=100, digits=1, note="Macro F1: the mean of the classes' F1."
)(confusion_matrix)
matthews_correlation = register_metric(
    "matthews", title="Matthews", compute=matthews, scale=100, digits=1, note="Matthews: 100 times the correlation."
)(confusion_matrix)
