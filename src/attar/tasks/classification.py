"""Classification: one of K classes for each image, sentence or node."""

from __future__ import annotations

from dataclasses import dataclass

from attar.losses import CrossEntropy, KLDivergence
from attar.losses.loss import Loss
from attar.metrics import ClassificationMetrics, Metrics


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
