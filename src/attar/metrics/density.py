"""The scores of a counting network: how far the sums of its density maps are from the numbers of objects."""

from __future__ import annotations

from torch import Tensor

from attar.batch import Batch
from attar.errors import AttarError
from attar.metrics.base import Measure, Metrics, counted


class CountingMetrics(Metrics):
    """Mean absolute and root mean squared error of the counts, as the counting literature has them.

    >>> import torch
    >>> metrics = CountingMetrics()
    >>> truth = torch.tensor([2.0, 5.0]).view(2, 1, 1, 1)
    >>> metrics.update(truth + torch.tensor([3.0, -1.0]).view(2, 1, 1, 1), Batch(torch.zeros(2, 1), truth))
    >>> metrics.compute()
    {'mae': 2.0, 'rmse': 2.23606797749979}
    """

    measures = (
        Measure("mae", "MAE", 1, 2),
        Measure("rmse", "RMSE", 1, 2, watched=True),
        Measure("gap", "MAE to teacher", 1, 2),
    )
    sample = "image"

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        found, true = (maps.double().flatten(1).sum(1) for maps in (output, batch.labels))
        weight = true.new_ones(len(true)) if batch.weight is None else batch.weight.double()
        error = found - true
        sums = {
            "absolute": (error.abs() * weight).sum(),
            "squared": (error.square() * weight).sum(),
            "count": weight.sum(),
        }
        if other is not None:
            sums["gap"] = ((found - other.double().flatten(1).sum(1)).abs() * weight).sum()
        return sums

    def compute(self) -> dict[str, float]:
        if not self.totals:
            raise AttarError("there are no images to measure; give at least one batch")
        count = counted(float(self.totals["count"]), "images")
        scores = {
            "mae": float(self.totals["absolute"]) / count,
            "rmse": (float(self.totals["squared"]) / count) ** 0.5,
        }
        return scores | ({"gap": float(self.totals["gap"]) / count} if "gap" in self.totals else {})
