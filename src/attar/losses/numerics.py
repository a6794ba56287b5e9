"""Arithmetic that keeps its precision, whatever the networks run in."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor


def widen(tensor: Tensor) -> Tensor:
    """Float32 at least: half types are widened, float64 stays.

    >>> widen(torch.zeros(1, dtype=torch.bfloat16)).dtype, widen(torch.zeros(1, dtype=torch.float64)).dtype
    (torch.float32, torch.float64)
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def log_probabilities(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """log softmax(z / T) over the classes of (B, K) logits, in float32 at least."""
    return F.log_softmax(widen(logits) / temperature, dim=1)


def log_probabilities_among(logits: Tensor, hidden: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """log softmax(z / T) over the classes that are not hidden (B, K), whose places hold -inf.

    The division comes first: the gradient of a temperature would be NaN through an infinity.
    """
    return F.log_softmax((widen(logits) / temperature).masked_fill(hidden, -math.inf), dim=1)


def divergence_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """p * log(p / q) for each element; summed over classes it is KL(p || q)."""
    return log_p.exp() * (log_p - log_q)


def product(left: Tensor, right: Tensor) -> Tensor:
    """The matrix product in the type of its inputs: autocast would fall back to half precision."""
    device = left.device.type
    # Not every device knows autocast: "meta", on which shapes are tried out, does not.
    known = torch.amp.is_autocast_available(device)
    with torch.autocast(device, enabled=False) if known else nullcontext():
        return left @ right


def gram(rows: Tensor) -> Tensor:
    """All inner products between the rows of (B, D): (B, B)."""
    return product(rows, rows.mT)
