"""The temperature that makes a classifier's probabilities honest, fitted on validation images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attar.errors import AttarError
from attar.losses import cross_entropy

# Beyond these a set is too small or separated without a mistake.
LEAST, MOST = 0.05, 20.0


def fitted_temperature(logits: Tensor, labels: Tensor) -> float:
    """T > 0 for which softmax(logits / T) has the least negative log-likelihood (Guo et al., arXiv:1706.04599).

    Args:
        logits: (N, K).
        labels: (N,) class numbers.

    Raises:
        AttarError: the likelihood still grows at 1/20 or 20: there are too few images, all right or at random.

    >>> logits = torch.tensor([[8.0, 0.0], [8.0, 0.0], [8.0, 0.0], [8.0, 0.0]])
    >>> round(fitted_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)  # 8 / log 3
    7.282
    """
    from scipy.optimize import minimize_scalar  # half a second of import that only this needs

    given = logits.double()

    def loss(power: float) -> float:
        return float(cross_entropy(given / math.exp(power), labels))

    with torch.no_grad():
        found = minimize_scalar(loss, bounds=(math.log(LEAST), math.log(MOST)), method="bounded")
    temperature = math.exp(float(found.x))
    if not LEAST * 1.01 < temperature < MOST / 1.01 or float(found.fun) < 1e-6:
        raise AttarError(
            f"{len(labels)} validation images fit no temperature between {LEAST:g} and {MOST:g}; keep more apart "
            "(data.val_fraction), or leave --temperature out"
        )
    return temperature
