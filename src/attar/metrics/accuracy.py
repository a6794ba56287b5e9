"""One pass over a data set: accuracy, calibration, and fidelity to a teacher, summed on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.errors import AttarError
from attar.knowledge import logits_of
from attar.losses import cross_entropy, kl_divergence
from attar.metrics.calibration import bin_sums, brier_terms, ece_from


class Labelled(Protocol):
    """A batch: inputs (images (B, C, H, W), say, or tensors by name) and labels (B,), on the network's device."""

    inputs: Inputs
    labels: Tensor


@dataclass(frozen=True)
class Scores:
    """What `evaluate` found.

    Attributes:
        count: samples seen.
        top1: the fraction whose highest logit is the label's.
        top5: the fraction whose label is among the five highest (all of them, where there are fewer classes).
        nll: mean negative log-likelihood, in nats.
        ece: expected calibration error over 15 equally wide bins.
        brier: Brier score over all classes, 0 to 2.
        per_class: top-1 within each class; None where no sample had that label.
        agreement: the fraction on which the teacher predicts the same class; None without a teacher.
        kl: mean KL(p_teacher || p_student) at temperature 1; None without a teacher.
    """

    count: int
    top1: float
    top5: float
    nll: float
    ece: float
    brier: float
    per_class: tuple[float | None, ...]
    agreement: float | None = None
    kl: float | None = None


@contextmanager
def evaluating(*nets: nn.Module) -> Iterator[None]:
    """Networks in eval mode and without gradients; afterwards every module is as it was."""
    modes = [(module, module.training) for net in nets for module in net.modules()]
    for net in nets:
        net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def evaluate(net: nn.Module, batches: Iterable[Labelled], teacher: nn.Module | None = None) -> Scores:
    """Measure a network on batches of any sizes. The device is read once, at the end.

    Args:
        net: called with the images; it returns logits (B, K) or an `Output`.
        batches: objects with .inputs and .labels.
        teacher: compared with the network on the same images.

    Raises:
        AttarError: there are no batches, or the logits do not fit the labels.

    >>> from attar.batch import Batch
    >>> scores = evaluate(nn.Identity(), [Batch(torch.eye(4), torch.tensor([0, 1, 2, 2]))])
    >>> scores.top1, scores.per_class
    (0.75, (1.0, 1.0, 0.5, None))
    """
    sums: dict[str, Tensor] = {}
    count = 0
    with evaluating(net, *([teacher] if teacher is not None else [])):
        for batch in batches:
            found = sums_of(_logits(net, batch), batch.labels, _logits(teacher, batch) if teacher is not None else None)
            sums = {name: sums[name] + value if sums else value for name, value in found.items()}
            count += len(batch.labels)
    if count == 0:
        raise AttarError("there are no samples to measure; give at least one batch")
    return scores_of({name: value.cpu() for name, value in sums.items()}, count)


def _logits(net: nn.Module, batch: Labelled) -> Tensor:
    return output_of(net, batch.inputs)


def output_of(net: nn.Module, inputs: Inputs) -> Tensor:
    """A network's logits for a batch, also out of a tuple, a dict or an `Output`; inputs with names go in by name."""
    found = net(**inputs) if isinstance(inputs, dict) else net(inputs)
    return logits_of(found)


def sums_of(logits: Tensor, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
    """Everything about one batch that adds up over batches."""
    logits = logits.double()
    bins = bin_sums(logits, labels)
    classes = logits.shape[1]
    predicted, best = logits.argmax(1), logits.topk(min(5, classes)).indices
    correct = predicted == labels
    none = torch.zeros(classes, dtype=torch.long, device=logits.device)
    sums = {
        "top1": correct.sum(),
        "top5": (best == labels[:, None]).sum(),
        "nll": cross_entropy(logits, labels, reduction="sum"),
        "brier": brier_terms(logits, labels).sum(),
        "bins": bins,
        "seen": none.index_add(0, labels, torch.ones_like(labels)),
        "correct": none.index_add(0, labels, correct.long()),
    }
    if teacher is not None:
        sums["agreement"] = (predicted == teacher.argmax(1)).sum()
        sums["kl"] = kl_divergence(logits, teacher.double(), temperature=1.0, reduction="sum")
    return sums


def scores_of(sums: dict[str, Tensor], count: int) -> Scores:
    """The sums over all batches as means."""
    names = {"top1", "top5", "nll", "brier", "agreement", "kl"} & sums.keys()
    pairs = zip(sums["correct"].tolist(), sums["seen"].tolist(), strict=True)
    return Scores(
        count=count,
        ece=ece_from(sums["bins"]).item(),
        per_class=tuple(correct / seen if seen else None for correct, seen in pairs),
        **{name: sums[name].item() / count for name in names},
    )


def interval(correct: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of an accuracy: what the finite test set leaves open, not the seeds.

    Args:
        correct: samples that were right.
        count: samples in all.
        level: the chance that such intervals cover the truth.

    Raises:
        AttarError: there are no samples, or more correct ones than samples.

    >>> [round(end, 4) for end in interval(81, 263)]
    [0.2553, 0.3662]
    """
    if not 0 <= correct <= count or count == 0:
        raise AttarError(f"{correct} correct of {count}; expected 0 <= correct <= count and at least one sample")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, scale = correct / count, 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / scale
    half = z / scale * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return max(centre - half, 0.0), min(centre + half, 1.0)
