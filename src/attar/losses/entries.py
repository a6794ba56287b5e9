"""Losses of outputs that have several entries a row: the tokens of a sequence, the nodes of a graph."""

from __future__ import annotations

from torch import Tensor, nn

from attar.errors import AttarError


class PerToken(nn.Module):
    """Another loss on every token (or node) of (B, L, K) outputs, averaged over the tokens that count.

    Tokens become rows, so that a loss on (N, K) logits needs no notion of sequences. The source is of the same shape,
    or (B, L) token numbers. The mean is over tokens, not over sequences: a sequence with more tokens that count has a
    larger share.

    Args:
        loss: a loss on (N, K) that takes a weight (`Loss.counts`).
        everywhere: average over all tokens, whatever `Batch.weight` is.

    Raises:
        AttarError: the outputs are not (B, L, K), or the loss takes no weight.

    >>> import torch
    >>> from attar.losses import CrossEntropy
    >>> logits, labels = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long)
    >>> round(PerToken(CrossEntropy())(logits, labels).item(), 4)  # log 4
    1.3863
    """

    counts = True

    def __init__(self, loss: nn.Module, everywhere: bool = False) -> None:
        super().__init__()
        if not getattr(loss, "counts", False):
            raise AttarError(f"{type(loss).__name__} takes no weight; choose a loss whose forward has weight=")
        self.loss, self.everywhere = loss, everywhere

    def forward(self, learner: Tensor, source: Tensor, weight: Tensor | None = None) -> Tensor:
        if learner.ndim != 3:
            raise AttarError(
                f"outputs have shape {tuple(learner.shape)}; expected (B, L, K), a row of K for each token"
            )
        flat = None if weight is None else weight.flatten()
        return self.loss(learner.flatten(0, 1), source.flatten(0, 1), weight=flat)
