"""Shapes, labels and reductions: mistakes caught before any arithmetic, and without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attar.errors import AttarError, PairError, unknown

REDUCTIONS = ("batchmean", "mean", "none", "sum")


def check_reduction(reduction: object) -> None:
    """Refuse a reduction that does not exist, naming the nearest."""
    if reduction not in REDUCTIONS:
        raise unknown("reduction", str(reduction), REDUCTIONS)


def reduced(terms: Tensor, reduction: str, weight: Tensor | None = None) -> Tensor:
    """The terms of a loss as one number; the one place that decides what a mean is divided by.

    Args:
        terms: (B, ...) one value an element.
        reduction: "batchmean" (sum over all, divided by B), "mean" (over every element), "sum" or "none".
        weight: (B,) how much each row counts; the sums are weighted, and the weights' sum stands in place of B. Where
            no row counts, the means are 0. None: all count 1.

    >>> [reduced(torch.ones(2, 3), name).item() for name in ("batchmean", "mean", "sum")]
    [3.0, 1.0, 6.0]
    >>> reduced(torch.tensor([1.0, 3.0, 100.0]), "mean", weight=torch.tensor([1.0, 1.0, 0.0])).item()
    2.0
    """
    check_reduction(reduction)
    if weight is not None:
        return _weighted(terms, reduction, weight)
    if reduction == "none":
        return terms
    if reduction == "mean":
        return terms.mean()
    return terms.sum() / len(terms) if reduction == "batchmean" else terms.sum()


def _weighted(terms: Tensor, reduction: str, weight: Tensor) -> Tensor:
    if weight.shape != terms.shape[:1]:
        raise AttarError(
            f"the weight has shape {tuple(weight.shape)}, the loss has {len(terms)} rows; give one number a row"
        )
    weight = weight.to(terms.dtype)
    # A row that does not count may hold anything, infinities too.
    rows = torch.where((weight > 0).view(-1, *[1] * (terms.ndim - 1)), terms, terms.new_zeros(()))
    rows = rows * weight.view(-1, *[1] * (terms.ndim - 1))
    if reduction == "none":
        return rows
    if reduction == "sum":
        return rows.sum()
    elements = terms[0].numel() if reduction == "mean" else 1
    return rows.sum() / (weight.sum() * elements).clamp_min(torch.finfo(weight.dtype).tiny)


def row_weighted(loss: nn.Module, compared: tuple[Tensor, ...], rows: Tensor, weight: Tensor | None = None) -> Tensor:
    """The mean of rows * (the loss of each row), of a loss that takes a weight.

    Args:
        loss: loss(*compared, weight=...), the mean over what counts.
        compared: its arguments.
        rows: (B,) the factor of each row.
        weight: (B,) how much each row counts in the mean; None: all alike.
    """
    shares = rows if weight is None else rows * weight
    whole = len(rows) if weight is None else weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
    return loss(*compared, weight=shares) * (shares.sum() / whole)


def check_counts(loss: nn.Module) -> None:
    """Refuse a loss that takes no weight."""
    if not getattr(loss, "counts", False):
        raise AttarError(
            f"{type(loss).__name__} takes no weight of rows; choose a loss whose forward has weight= (the divergences, "
            "DKD, NKD)"
        )


def check_positive(name: str, number: float | Tensor) -> None:
    """Refuse a number that is not above 0. A tensor is trusted, since reading it would wait for the device."""
    if not isinstance(number, Tensor) and not number > 0:
        raise AttarError(f"{name} is {number}; it must be above 0")


def check_same_shape(
    learner: Tensor,
    source: Tensor,
    remedy: str = "compare tensors of one shape",
    error: type[AttarError] = AttarError,
) -> None:
    """Refuse two tensors of different shapes, naming both."""
    if learner.shape != source.shape:
        raise error(f"the learner has shape {tuple(learner.shape)}, the source {tuple(source.shape)}; {remedy}")


def check_logits(learner: Tensor, source: Tensor) -> None:
    """Refuse logits that are not (B, K) each, with one B and one K."""
    if learner.ndim != 2:
        raise AttarError(f"logits have shape {tuple(learner.shape)}; expected (B, K), flatten positions into the batch")
    check_same_shape(learner, source, "logits are compared over the same batch and the same classes", PairError)


def check_same_batch(learner: Tensor, source: Tensor) -> None:
    """Refuse features of different batches; their other dimensions may differ."""
    if len(learner) != len(source):
        raise AttarError(f"the learner has a batch of {len(learner)}, the source of {len(source)}; give both one batch")


def label_mask(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K), true at each sample's own class."""
    if labels.shape != logits.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise AttarError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}; "
            f"expected class numbers of shape ({len(logits)},)"
        )
    return torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
