"""EKD: logits as the evidence of a Dirichlet distribution, whose mean and whose shape are matched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.losses.checks import check_logits, check_positive, label_mask
from attar.losses.loss import Loss
from attar.losses.numerics import divergence_terms, widen

LOG_PRIOR = -1.22
# From this log a on psi(a) is log a, up to 1 / 2a = 5e-14.
LARGE = 30.0


def _log_evidence(logits: Tensor, temperature: float, log_prior: float) -> Tensor:
    """(B, K): log(exp(z / T) + exp(lambda)); never leaves logarithms, where exp(z) would overflow."""
    scaled = widen(logits) / temperature
    return torch.logaddexp(scaled, torch.full_like(scaled, log_prior))


def evidential_cross_entropy(logits: Tensor, labels: Tensor, log_prior: float = LOG_PRIOR) -> Tensor:
    """The expected cross-entropy under the Dirichlet: psi(sum a) - psi(a_y), a = exp(z) + exp(lambda), batch mean.

    Args:
        logits: (B, K).
        labels: (B,) class numbers.
        log_prior: lambda; -1.22 for resnet32x4 to resnet8x4.

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> round(evidential_cross_entropy(S, torch.tensor([0, 1])).item(), 4)
    0.3702
    """
    own = label_mask(logits, labels)
    log_evidence = _log_evidence(logits, 1.0, log_prior)
    evidence = log_evidence.clamp(max=LARGE).exp()
    whole = _digamma(log_evidence.logsumexp(1), evidence.sum(1))
    return (whole - _digamma(log_evidence, evidence).masked_fill(~own, 0.0).sum(1)).mean()


def _digamma(log_a: Tensor, a: Tensor) -> Tensor:
    """psi(a); of a large a its logarithm, which it then equals, since exp would overflow."""
    return torch.where(log_a > LARGE, log_a, a.digamma())


def evidential_mean_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, log_prior: float = LOG_PRIOR
) -> Tensor:
    """T^2 KL between the means of the two Dirichlets, a / sum a, averaged over the batch (EKD's first order).

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(evidential_mean_kl(S, T).item(), 4)
    0.0689
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    means = [
        _log_evidence(logits, temperature, log_prior).log_softmax(1) for logits in (teacher_logits, student_logits)
    ]
    return temperature**2 * divergence_terms(*means).sum(1).mean()


def dirichlet_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, log_prior: float = LOG_PRIOR
) -> Tensor:
    """T^2 KL(Dir(a_t) || Dir(a_s)), a = log(1 + softplus(z / T)) + exp(lambda), batch mean (EKD's second order).

    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(dirichlet_kl(S, T).item(), 4)
    0.0261
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the temperature", temperature)
    prior = torch.tensor(log_prior).exp().item()
    student, teacher = (
        F.softplus(widen(logits) / temperature).log1p() + prior for logits in (student_logits, teacher_logits)
    )
    normaliser = teacher.sum(1).lgamma() - student.sum(1).lgamma() - (teacher.lgamma() - student.lgamma()).sum(1)
    expected = teacher.digamma() - teacher.sum(1, keepdim=True).digamma()
    return temperature**2 * (normaliser + ((teacher - student) * expected).sum(1)).mean()


@dataclass(eq=False, repr=False)
class EvidentialCrossEntropy(Loss):
    """`evidential_cross_entropy` as a module: loss(logits, labels)."""

    log_prior: float = LOG_PRIOR

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return evidential_cross_entropy(learner, source, self.log_prior)


@dataclass(eq=False, repr=False)
class EvidentialMeanKL(Loss):
    """`evidential_mean_kl` as a module: loss(student_logits, teacher_logits)."""

    temperature: float = 1.0
    log_prior: float = LOG_PRIOR

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return evidential_mean_kl(learner, source, self.temperature, self.log_prior)


@dataclass(eq=False, repr=False)
class DirichletKL(Loss):
    """`dirichlet_kl` as a module: loss(student_logits, teacher_logits)."""

    temperature: float = 1.0
    log_prior: float = LOG_PRIOR

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return dirichlet_kl(learner, source, self.temperature, self.log_prior)
