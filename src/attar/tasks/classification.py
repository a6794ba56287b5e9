"""Classification: one of K classes for each image, sentence or node."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from attar.batch import Address, Batch
from attar.data import Splits
from attar.errors import AttarError
from attar.losses import CrossEntropy, KLDivergence
from attar.losses.loss import Loss
from attar.metrics import ClassificationMetrics, Metrics
from attar.recipe import Recipe
from attar.tasks.images import read_images
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
        """All images of the recipe's data section.

        Raises:
            AttarError: the images have several labels each.
        """
        splits = read_images(recipe)
        if splits.train.multilabel:
            raise AttarError(f"images of data={recipe.data.name} have any number of labels; give task=multilabel")
        return splits
