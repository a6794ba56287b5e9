"""Relations of logits: between the classes of a sample (LDRLD), between the samples of a batch (SKD)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import check_logits, check_positive, label_mask
from attar.losses.loss import Loss
from attar.losses.numerics import divergence_terms, gram, log_probabilities, log_probabilities_among, product, widen
from attar.losses.responses import kl_divergence

# Keeps the gradient of a square root finite where two similarities are equal.
_TINY = 1e-12


def local_relations(
    student_logits: Tensor, teacher_logits: Tensor, top: int = 7, temperature: float = 4.0
) -> tuple[Tensor, Tensor]:
    """LDRLD's two terms: pairwise relations among the student's largest classes, and the KL over the others.

    For the ranks i < j of the student's `top` largest logits: w_ij T^2 KL of the two-class softmax, with
    w_ij = 2 / (1.5 + j - i) exp(-0.05 (i + j)); their sum and the T^2 KL over all `top` classes, divided by the number
    of pairs + 1 (LDRLD, ICCV 2025).

    Deviates: with top = 2 the released code weighs the KL over both classes like a pair.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        top: how many classes; 7 in the released settings.
        temperature: T (4).

    Returns:
        The local term and that of the other classes (0 where there are fewer than two), averaged over the batch.

    >>> S = torch.tensor([[2.0, 1.0, 0.1, 1.0, 1.5, 0.0], [0.5, 2.5, 0.3, 0.0, 3.0, 1.0]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2, 2.0, 1.0, 0.1], [0.2, 2.0, 0.8, 0.5, 2.5, 0.3]])
    >>> [round(term.item(), 4) for term in local_relations(S, T, top=3)]
    [0.0602, 0.0844]
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    classes = student_logits.shape[1]
    if not 2 <= top <= classes:
        raise AttarError(f"ldrld compares the {top} largest of {classes} classes; give top= from 2 to {classes}")
    student, teacher = widen(student_logits), widen(teacher_logits)
    order = student.detach().argsort(dim=1, descending=True, stable=True)
    largest, others = order[:, :top], order[:, top:]
    student_top, teacher_top = student.gather(1, largest), teacher.gather(1, largest)
    first, second = torch.triu_indices(top, top, offset=1, device=student.device)
    pairs = [torch.stack([one[:, first], one[:, second]], dim=-1) / temperature for one in (teacher_top, student_top)]
    relations = divergence_terms(pairs[0].log_softmax(-1), pairs[1].log_softmax(-1)).sum(-1)
    together = kl_divergence(student_top, teacher_top, temperature)
    weighted = relations * rank_weights(first, second)
    local = (temperature**2 * weighted.sum(1).mean() + together) / (len(first) + 1)
    if top == classes:
        return local, torch.zeros_like(local)
    return local, kl_divergence(student.gather(1, others), teacher.gather(1, others), temperature)


def rank_weights(first: Tensor, second: Tensor) -> Tensor:
    """LDRLD's weights of pairs of classes by their ranks, counted from 0, the first the smaller one.

    >>> round(rank_weights(torch.tensor([0]), torch.tensor([1])).item(), 4)
    0.6886
    """
    # Ranks of the paper count from 1: its i + j is first + second + 2.
    return 2 / (1.5 + second - first) * (-0.05 * (first + second + 2)).exp()


@dataclass(eq=False, repr=False)
class LocalRelations(Loss):
    """`local_relations`, weighed and summed: loss(student_logits, teacher_logits)."""

    local: float = 10.5
    rest: float = 7.0
    top: int = 7
    temperature: float = 4.0

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        local, rest = local_relations(learner, source, min(self.top, learner.shape[1]), self.temperature)
        return self.local * local + self.rest * rest


def whitened_similarity(student_logits: Tensor, teacher_logits: Tensor, tikhonov: float = 0.1) -> Tensor:
    """SKD's direction term: the whitened distance between the batch's cosine-similarity matrices (CVPR 2026).

    D = (z_s z_s^T - z_t z_t^T) / K with rows of length 1; S the covariance of D's rows + tikhonov * I; the mean over
    rows of sqrt(D_i S^-1 D_i^T). The gradient passes S too. Costs O(B^3).

    Args:
        student_logits: (B, K), B of at least 2.
        teacher_logits: (B, K).
        tikhonov: what is added to the covariance's diagonal (0.1).

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(whitened_similarity(S, T).item(), 4)
    0.2205
    """
    check_logits(student_logits, teacher_logits)
    check_positive("tikhonov", tikhonov)
    if len(student_logits) < 2:
        raise AttarError("skd compares the images of a batch, and this one has a single image; give two or more")
    units = (torch.nn.functional.normalize(widen(logits), dim=1) for logits in (student_logits, teacher_logits))
    similar_student, similar_teacher = (gram(rows) for rows in units)
    gap = (similar_student - similar_teacher) / student_logits.shape[1]
    centred = gap - gap.mean(0)
    covariance = product(centred.mT, centred) / (len(gap) - 1)
    covariance = covariance + tikhonov * torch.eye(len(gap), device=gap.device, dtype=gap.dtype)
    whitened = torch.cholesky_solve(gap.mT, torch.linalg.cholesky(covariance))
    return ((gap.mT * whitened).sum(0) + _TINY).sqrt().mean()


@dataclass(eq=False, repr=False)
class Streamlined(Loss):
    """SKD's teacher terms as released: m_i T^2 KL(p_t || p_s) + m_c `whitened_similarity`.

    m_i is the share of images of which the teacher is no surer than of the batch's median image, m_c that of classes
    with no more probability than the median class: both near one half, whatever the images. The paper has neither.
    """

    whole_batch: ClassVar[bool] = True  # similarities between images
    temperature: float = 4.0
    tikhonov: float = 0.1

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        teacher = log_probabilities(source).exp()
        sure, classes = teacher.amax(1), teacher.sum(0)
        images = (sure <= sure.median()).to(teacher).mean() * kl_divergence(learner, source, self.temperature)
        share = (classes <= classes.median()).to(teacher).mean()
        return images + share * whitened_similarity(learner, source, self.tikhonov)


def refined(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """RLD: the teacher's confidence without its mistakes (arXiv:2408.07703).

    alpha * KL of (teacher's largest probability, rest) to (student's probability of the label, rest), at temperature
    1, and beta * T^2 KL over the classes that the teacher finds less likely than the label.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        labels: (B,) class numbers.
        alpha: weight of the confidence (1).
        beta: weight of the classes (8).
        temperature: T of the classes (4).

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(refined(S, T, torch.tensor([0, 1])).item(), 4), round(refined(S, T, torch.tensor([1, 1])).item(), 4)
    (0.3839, 0.7315)
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    label_mask(student_logits, labels)
    student, teacher = widen(student_logits), widen(teacher_logits)
    pairs = [_one_against_rest(teacher, teacher.argmax(1)), _one_against_rest(student, labels)]
    confidence = divergence_terms(*pairs).sum(1).mean()
    less_likely = teacher < teacher.gather(1, labels[:, None])
    # A row without such a class keeps all of them: its divergence is left out below.
    hidden = ~less_likely & less_likely.any(1, keepdim=True)
    log_t, log_s = (log_probabilities_among(one, hidden, temperature) for one in (teacher, student))
    terms = divergence_terms(log_t.masked_fill(hidden, 0.0), log_s.masked_fill(hidden, 0.0)).masked_fill(
        ~less_likely, 0.0
    )
    return alpha * confidence + beta * temperature**2 * terms.sum(1).mean()


def _one_against_rest(logits: Tensor, chosen: Tensor) -> Tensor:
    """(B, 2): log p of the chosen class and log of the others' sum."""
    log_p = logits.log_softmax(1)
    own = torch.arange(logits.shape[1], device=logits.device) == chosen[:, None]
    return torch.stack([log_p.gather(1, chosen[:, None])[:, 0], log_p.masked_fill(own, -math.inf).logsumexp(1)], dim=1)


@dataclass(eq=False, repr=False)
class Refined(Loss):
    """`refined` as a module: loss(student_logits, teacher_logits, labels)."""

    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0

    def target_class(self) -> Refined:
        return Refined(self.alpha, 0.0, self.temperature)

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor) -> Tensor:
        return refined(learner, source, labels, self.alpha, self.beta, self.temperature)
