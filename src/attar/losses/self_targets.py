"""Soft targets without a teacher: made from the labels (TF-KD), or from images of the same class (CS-KD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_logits, check_positive, label_mask
from attar.losses.loss import Loss
from attar.losses.numerics import divergence_terms, log_probabilities, product, widen


def virtual_teacher(labels: Tensor, classes: int, temperature: float = 20.0, correct: float = 0.99) -> Tensor:
    """(B, K): softmax(u / T), with u = `correct` for the label and (1 - correct) / (K - 1) for every other class.

    u is a vector of probabilities, as in the authors' code (arXiv:1909.11723), so that the target is nearly uniform.

    Args:
        labels: (B,) class numbers, or (B, K) probabilities of mixed images, which mix the u of their classes.
        classes: K, at least 2.
        temperature: T (20).
        correct: the label's share in u (0.99).

    >>> target = virtual_teacher(torch.tensor([3]), 100)
    >>> round(target[0, 3].item(), 4), round(target[0, 0].item(), 4)
    (0.0105, 0.01)
    """
    check_positive("the temperature", temperature)
    if classes < 2 or not 0 < correct <= 1:
        raise AttarError(
            f"a virtual teacher of {classes} classes with correct={correct} is none; give two classes or more and a "
            "share above 0 and at most 1"
        )
    shares = widen(labels) if labels.is_floating_point() else F.one_hot(labels, classes).to(torch.float32)
    other = (1 - correct) / (classes - 1)
    return ((other + (correct - other) * shares) / temperature).softmax(1)


@dataclass(eq=False, repr=False)
class VirtualTeacherKL(Loss):
    """TF-KD's regulariser KL(virtual teacher || p_s), the student at temperature 1: loss(logits, labels).

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> round(VirtualTeacherKL()(S, torch.tensor([0, 1])).item(), 4)
    0.3839
    """

    temperature: float = 20.0
    correct: float = 0.99

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        if not source.is_floating_point():
            label_mask(learner, source)
        target = virtual_teacher(source, learner.shape[1], self.temperature, self.correct).to(widen(learner))
        return divergence_terms(target.log(), log_probabilities(learner)).sum(1).mean()


def same_class_kl(logits: Tensor, others: Tensor, labels: Tensor, temperature: float = 4.0) -> Tensor:
    """T^2 KL(p_j || p_i) between images of one class: CS-KD (arXiv:2003.13964) within a batch.

    For each image i the mean over all other images j of the batch with its label, which is the expectation over a
    partner drawn at random; then the mean over the images that have a partner (0 where none has).

    Args:
        logits: (B, K) of the images that learn.
        others: (B, K) of the same images as partners.
        labels: (B,) class numbers.
        temperature: T (4).

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3], [3.0, 1.0, 0.2]])
    >>> round(same_class_kl(S, S, torch.tensor([0, 1, 0]), 1.0).item(), 4)
    0.0861
    """
    check_logits(logits, others)
    check_positive("the temperature", temperature)
    label_mask(logits, labels)
    log_p, log_q = log_probabilities(logits, temperature), log_probabilities(others, temperature)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    partners = ((labels[:, None] == labels) & ~itself).to(log_p)
    count = partners.sum(1)
    share = partners / count.clamp(min=1)[:, None]
    target = product(share, log_q.exp())
    entropy = product(share, (log_q.exp() * log_q).sum(1, keepdim=True))[:, 0]
    each = entropy - (target * log_p).sum(1)
    return temperature**2 * each.sum() / (count > 0).sum().clamp(min=1)


@dataclass(eq=False, repr=False)
class SameClassKL(Loss):
    """`same_class_kl` as a module: loss(logits, others' logits, labels)."""

    whole_batch: ClassVar[bool] = True  # an image's partners are anywhere in the batch
    temperature: float = 4.0

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor) -> Tensor:
        return same_class_kl(learner, source, labels, self.temperature)
