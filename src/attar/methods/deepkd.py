"""DeepKD: the target class and the others apart, the others from the teacher's surest to all of them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attar import losses
from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Offline
from attar.methods.registry import register


@register(
    "deepkd",
    title="DeepKD: A Deeply Decoupled and Denoised Knowledge Distillation Trainer",
    paper="arXiv:2505.15133",
    year=2025,
    family="offline",
)
class DeepKD(Offline):
    """DeepKD: A Deeply Decoupled and Denoised Knowledge Distillation Trainer (2025).

    L = ce * CE + alpha * TCKD + beta * NCKD among the teacher's k largest other classes, k from `first` of the classes
    to all of them. Its optimiser keeps a momentum for each of the three: run it with optim.name=deepkd, which goes with
    other methods too.

    Reconstructed: that k grows linearly over the epochs is ours; the authors' code has a fixed k. Deviates: their
    variant on DKD (alpha 1, beta 8) has DKD's warm-up of 20 epochs, this one has none.

    Args:
        teacher: a trained network.
        student: the network to train.
        temperature: T (4, the literature's on CIFAR-100).
        alpha: weight of the target class (1).
        beta: weight of the other classes (8).
        first: which part of the classes is compared in the first epoch (0.05).
        ce: weight of the labels (1).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        first: float = 0.05,
        ce: float = 1.0,
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.alpha, self.beta, self.first, self.ce = temperature, alpha, beta, first, ce

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        classes = known["student.logits"].shape[1]  # type: ignore[union-attr]
        return known.add("teacher.kept", self.kept(batch, classes))

    def kept(self, batch: Batch, classes: int) -> Tensor:
        """How many of the other classes are compared at the batch's epoch: two at least, one has nothing to match."""
        done = batch.address.epoch / max(batch.epochs - 1, 1)
        count = max(round(classes * (self.first + (1 - self.first) * done)), 2)
        return torch.full((), count, device=batch.device)

    def leave_graphs(self) -> None:
        """Keep the number that the epoch changes out of what is compiled."""
        self.kept = torch.compiler.disable(self.kept)  # type: ignore[method-assign]

    def transfers(self) -> Iterable[Transfer]:
        ends = ("teacher.logits", "student.logits")
        target, others = losses.TCKD(self.temperature), losses.TopNCKD(self.temperature)
        yield self.label_edge(weight=self.ce)
        yield Transfer(*ends, target, self.alpha, given=("labels",), name="target class", component="target")
        yield Transfer(*ends, others, self.beta, given=("labels", "teacher.kept"), name="other classes")
