"""Classification: one of K classes for each image, sentence or node."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from attar.batch import Address, Batch
from attar.data import Splits, dataset_info, list_datasets, load_data, read_data
from attar.losses import CrossEntropy, KLDivergence
from attar.losses.loss import Loss
from attar.metrics import ClassificationMetrics, Metrics
from attar.recipe import Recipe
from attar.registry import check_types
from attar.tasks.registry import register_task


@register_task("classification")
@dataclass(frozen=True)
class Classification:
    """Logits (B, K); labels are class numbers (B,), or probabilities (B, K) of mixed images.

    >>> Classification().imitate(4.0)
    KLDivergence(temperature=4.0, reduction='batchmean')
    """

    output: str = "logits"

    def supervise(self) -> Loss:
        """Cross-entropy with the labels, averaged over the batch."""
        return CrossEntropy()

    def imitate(self, temperature: float) -> Loss:
        """T^2 KL(teacher || student) of the softened distributions, averaged over the batch (Hinton et al., 2015)."""
        return KLDivergence(temperature)

    def metrics(self) -> Metrics:
        """Top-1, top-5, calibration and fidelity to a teacher; top-1 decides."""
        return ClassificationMetrics()

    def example(self) -> Batch:
        """Two colour images of noise, 32 x 32, of the first two classes."""
        images = torch.randn(2, 3, 32, 32, generator=Address().generator("example"))
        return Batch(images, torch.arange(2), torch.arange(2), output=self.output)

    def load(self, recipe: Recipe) -> Splits:
        """All images of the recipe's data section."""
        data = recipe.data
        check_types("data", load_data, data.options)
        if data.name in list_datasets():
            check_types(f"data set {data.name!r}", dataset_info(data.name).load, data.options)
        options = {key: value for key, value in data.options.items() if key != "class_weights"}
        return read_data(data.name, data.root, augment=data.augment, unlabelled=data.unlabelled, **options)
