"""What features without a classifier are scored by: their neighbours, and how many dimensions they use."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.batch import Batch
from attar.errors import AttarError
from attar.metrics.base import Measure, Metrics

# Of the kNN classifier: DINO's 20 neighbours, weighed by exp(cosine / 0.07).
VOTERS, TEMPERATURE = 20, 0.07
# Neighbours of an image that two networks are compared by.
NEIGHBOURS = 10
# Rows whose similarities to all others are held at a time.
ROWS = 1024
KNN = Measure(
    "knn",
    "kNN %",
    100,
    2,
    higher=True,
    share=True,
    note="kNN: images whose 20 nearest other images of the set, by cosine, have their class.",
)
RANK = Measure(
    "rank",
    "rank",
    1,
    1,
    higher=True,
    watched=True,
    note="Rank: RankMe, exp of the entropy of the features' singular values: the dimensions they use.",
)
SHARED = Measure(
    "neighbours",
    "shared neighbours %",
    100,
    1,
    higher=True,
    note="Shared neighbours: of an image's 10 nearest images, by cosine, those that the teacher finds too.",
)


def nearest(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(N, count) cosines and positions of the nearest other rows, the nearest first.

    >>> nearest(torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]]), 1)[1].flatten().tolist()
    [1, 0, 1]
    """
    unit, found = F.normalize(features.float(), dim=1), []
    for start in range(0, len(unit), ROWS):
        cosines = unit[start : start + ROWS] @ unit.T
        rows = torch.arange(len(cosines), device=unit.device)
        cosines[rows, rows + start] = -torch.inf
        found.append(cosines.topk(min(count, len(unit) - 1), dim=1))
    return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])


def knn_accuracy(features: Tensor, labels: Tensor) -> float:
    """The share of rows whose nearest other rows vote for their class, each with exp(cosine / 0.07).

    Args:
        features: (N, D).
        labels: (N,) class numbers.

    >>> knn_accuracy(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), torch.tensor([0, 0, 1, 0]))
    0.5
    """
    cosines, places = nearest(features, VOTERS)
    votes = features.new_zeros(len(features), int(labels.max()) + 1, dtype=torch.float32)
    votes.scatter_add_(1, labels[places], ((cosines - cosines[:, :1]) / TEMPERATURE).exp())
    return float((votes.argmax(1) == labels).double().mean())


def shared_neighbours(features: Tensor, others: Tensor) -> float:
    """The share of each row's nearest rows by one set of features (N, D) that another (N, D') finds too.

    >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    >>> shared_neighbours(rows, 3 * rows)
    1.0
    """
    one, other = nearest(features, NEIGHBOURS)[1], nearest(others, NEIGHBOURS)[1]
    return float((one[:, :, None] == other[:, None, :]).any(2).double().mean())


def effective_rank(features: Tensor) -> float:
    """RankMe (arXiv:2210.02885): exp of the entropy of the singular values (N, D), as shares of their sum.

    >>> round(effective_rank(torch.eye(4)), 3), round(effective_rank(torch.ones(4, 3)), 3)
    (4.0, 1.0)
    """
    values = torch.linalg.svdvals(features.double())
    shares = values / values.sum().clamp_min(1e-12)
    return float(torch.special.entr(shares).sum().exp())


class FeatureMetrics(Metrics):
    """Features (B, D): the dimensions they use and, beside a teacher, the share of neighbours that it finds too.

    >>> metrics = FeatureMetrics()
    >>> metrics.update(torch.eye(4), Batch(torch.zeros(4, 1), torch.full((4,), -1)))
    >>> round(metrics.compute()["rank"], 3)
    4.0
    """

    measures: ClassVar[tuple[Measure, ...]] = (RANK, SHARED)
    sample = "image"
    joined: ClassVar[frozenset[str]] = frozenset({"features", "labels", "others"})

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        found = {"features": output.float(), "labels": batch.labels}
        return found if other is None else {**found, "others": other.float()}

    def compute(self) -> dict[str, float]:
        if not self.totals or len(self.totals["features"]) < 2:
            raise AttarError("features are compared with those of other images; give at least two")
        features, others = self.totals["features"], self.totals.get("others")
        if not bool(features.isfinite().all()):
            return {one.name: float("nan") for one in self.measures if one is not SHARED or others is not None}
        scores = {} if others is None else {"neighbours": shared_neighbours(features, others)}
        return self.of_labels() | {"rank": effective_rank(features)} | scores

    def of_labels(self) -> dict[str, float]:
        """What labels tell; there are none."""
        return {}

    def running(self) -> Metrics:
        return NoMeasure()


class LabelledFeatureMetrics(FeatureMetrics):
    """As `FeatureMetrics`, and first a kNN classifier: how often an image's neighbours have its class.

    >>> metrics = LabelledFeatureMetrics()
    >>> metrics.update(torch.eye(2)[[0, 1, 0, 1]], Batch(torch.zeros(4, 1), torch.tensor([0, 1, 0, 1])))
    >>> metrics.compute()["knn"]
    1.0
    """

    measures = (KNN, RANK, SHARED)

    def of_labels(self) -> dict[str, float]:
        return {"knn": knn_accuracy(self.totals["features"], self.totals["labels"])}


class NoMeasure(Metrics):
    """Nothing: the neighbours of an image are not in its batch."""

    measures = (RANK,)
    sample = "image"

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        return {}

    def compute(self) -> dict[str, float]:
        return {}
