"""Multi-label classification: any number of K labels for each image."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from attar.batch import Address, Batch
from attar.data import Splits
from attar.errors import AttarError
from attar.losses import BinaryCrossEntropy, BinaryKL
from attar.losses.loss import Loss
from attar.metrics.base import Metrics
from attar.metrics.multilabel import MultilabelMetrics
from attar.recipe import Recipe
from attar.tasks.images import read_images
from attar.tasks.registry import register_task


@register_task("multilabel", data=("digit_mosaics", "label_table"))
@dataclass
class Multilabel:
    """Label logits (B, K), one number a label, each with a sigmoid of its own; labels are (B, K), bool.

    They are not called "logits", because methods on those compare distributions over classes that exclude each other.

    >>> Multilabel().imitate(2.0)
    BinaryKL(temperature=2.0, reduction='mean')
    """

    output: str = "label_logits"

    def supervise(self) -> Loss:
        """Binary cross-entropy, averaged over images and labels."""
        return BinaryCrossEntropy()

    def imitate(self, temperature: float) -> Loss:
        """T^2 KL(teacher || student) of each label's two softened probabilities, averaged over images and labels."""
        return BinaryKL(temperature, reduction="mean")

    def metrics(self) -> Metrics:
        """Macro and micro mAP, and the share of labels that are right; macro mAP decides."""
        return MultilabelMetrics()

    def example(self) -> Batch:
        """Two colour images of noise, 16 x 16, with three and two of six labels."""
        images = torch.randn(2, 3, 16, 16, generator=Address().generator("example"))
        labels = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 1, 0]], dtype=torch.bool)
        return Batch(images, labels, torch.arange(2), output=self.output)

    def load(self, recipe: Recipe) -> Splits:
        """All images of the recipe's data section, which must be of several labels each.

        Raises:
            AttarError: they have one class each, or images without labels are to join them.
        """
        data = recipe.data
        if data.unlabelled:
            raise AttarError("data.unlabelled is for images of one class each, not for task=multilabel; leave it out")
        splits = read_images(recipe)
        if not splits.train.multilabel:
            raise AttarError(f"images of data={data.name} have one class each; give task=classification, or other data")
        return splits
