"""The teacher's classifier on a map that the student made."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from attar.models.surgery.staged import averaged


def borrowed_logits(classifier: nn.Linear, feature: Tensor) -> Tensor:
    """(B, K): the classifier, as it is, on a map (B, C, H, W) averaged over space; the gradient reaches the map alone.

    >>> import torch
    >>> borrowed_logits(nn.Linear(4, 3), torch.zeros(2, 4, 8, 8)).shape
    torch.Size([2, 3])
    """
    bias = None if classifier.bias is None else classifier.bias.detach()
    return F.linear(averaged(feature), classifier.weight.detach(), bias)
