"""Distillation after rescaling logits: by their deviation (LSKD, NormKD), or the teacher's by a power (TTM, WTTM)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attar.losses.checks import check_counts, check_logits, check_positive, row_weighted
from attar.losses.loss import Loss, target_class, without_temperature
from attar.losses.numerics import divergence_terms, log_probabilities, widen

_SMALL = 1e-7


def standardise(logits: Tensor) -> Tensor:
    """(z - mean) / (std + 1e-7) of each row, with the unbiased deviation (LSKD, Sun et al., arXiv:2403.01427).

    A pre-process: give the standardised logits of both sides to any loss on logits.

    Args:
        logits: (B, K), or (B, L, K) of tokens: over the last dimension.

    >>> import torch
    >>> [round(z, 4) for z in standardise(torch.tensor([[1.0, 2.0, 3.0]]))[0].tolist()]
    [-1.0, 0.0, 1.0]
    """
    logits = widen(logits)
    return (logits - logits.mean(-1, keepdim=True)) / (logits.std(-1, keepdim=True) + _SMALL)


class Standardised(nn.Module):
    """Another loss on logits after both ends are standardised (LSKD): the deviation takes the place of a scale.

    Args:
        loss: called as loss(learner, source, *given); source may be the logits of several teachers.

    >>> import torch
    >>> from attar.losses import KLDivergence
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(Standardised(KLDivergence(2.0))(S, T).item(), 4)
    0.0267
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.counts = getattr(loss, "counts", False)
        self.everywhere = getattr(loss, "everywhere", False)

    def target_class(self) -> Standardised | None:
        """The loss's part of the label's own class, likewise."""
        part = target_class(self.loss)
        return None if part is None else Standardised(part)

    def forward(self, learner: Tensor, source: Tensor | tuple[Tensor, ...], *given: Tensor, **weight: Tensor) -> Tensor:
        theirs = tuple(map(standardise, source)) if isinstance(source, tuple) else standardise(source)
        return self.loss(standardise(learner), theirs, *given, **weight)


class NormalisedTemperature(nn.Module):
    """Another loss on logits with the temperature of NormKD: the loss's own times the deviation of each row's logits.

    Each network's logits are divided by their deviation. Where the loss has the factor T^2, each row counts by the
    square of the teacher's deviation: KL at T then is `normkd` at scale T. A part without a temperature (the label's
    own class of NKD) stays as it is.

    Args:
        loss: called as loss(learner, source, *given, weight=...); it has to take a weight (`Loss.counts`).

    Raises:
        AttarError: it takes none.

    >>> import torch
    >>> from attar.losses import KLDivergence
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(NormalisedTemperature(KLDivergence(2.0))(S, T).item(), 4)
    0.0302
    """

    counts = True

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        check_counts(loss)
        self.loss = loss

    def forward(self, learner: Tensor, source: Tensor, *given: Tensor, weight: Tensor | None = None) -> Tensor:
        check_logits(learner, source)
        own, theirs = (widen(one).std(1, keepdim=True).clamp(min=_SMALL) for one in (learner, source))
        compared, factors = (widen(learner) / own, widen(source) / theirs, *given), theirs.squeeze(1).square()
        factors = factors if getattr(self.loss, "squared_temperature", True) else torch.ones_like(factors)
        loss = row_weighted(self.loss, compared, factors, weight)
        if (plain := without_temperature(self.loss)) is None:
            return loss
        as_it_is = row_weighted(plain, (learner, source, *given), torch.ones_like(factors), weight)
        return loss - row_weighted(plain, compared, factors, weight) + as_it_is


def normkd(student_logits: Tensor, teacher_logits: Tensor, scale: float = 2.0) -> Tensor:
    """T_t^2 KL(p_t || p_s), each sample and each network at its own T = scale * std(z) (NormKD, arXiv:2308.00520).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        scale: the temperature in deviations of the logits; 2 in the paper.

    >>> import torch
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(normkd(S, T).item(), 4)
    0.0302
    """
    check_logits(student_logits, teacher_logits)
    check_positive("the scale", scale)
    # Logits without spread would divide by zero; the floor makes them uniform instead.
    t_student, t_teacher = (
        (scale * widen(logits).std(1, keepdim=True)).clamp(min=_SMALL) for logits in (student_logits, teacher_logits)
    )
    log_t, log_s = log_probabilities(teacher_logits, t_teacher), log_probabilities(student_logits, t_student)
    return (t_teacher**2 * divergence_terms(log_t, log_s)).sum(1).mean()


@dataclass(eq=False, repr=False)
class NormKD(Loss):
    """`normkd` as a module: loss(student_logits, teacher_logits)."""

    scale: float = 2.0

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return normkd(learner, source, self.scale)


def _transformed_kl(student_logits: Tensor, teacher_logits: Tensor, power: float) -> Tensor:
    """(B,): KL(softmax(g z_t) || p_s), the student at temperature 1."""
    check_logits(student_logits, teacher_logits)
    check_positive("the power", power)
    log_q = log_probabilities(widen(teacher_logits) * power)
    return divergence_terms(log_q, log_probabilities(student_logits)).sum(1)


def ttm(student_logits: Tensor, teacher_logits: Tensor, power: float = 0.1) -> Tensor:
    """Transformed teacher matching: KL(q || p_s) with q proportional to p_t^g (Zheng and Yang, arXiv:2402.11148).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        power: the exponent g, the teacher's inverse temperature; the student has none. 0.1 is a published setting.

    >>> import torch
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(ttm(S, T).item(), 4)
    0.328
    """
    return _transformed_kl(student_logits, teacher_logits, power).mean()


@dataclass(eq=False, repr=False)
class TTM(Loss):
    """`ttm` as a module: loss(student_logits, teacher_logits)."""

    power: float = 0.1

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return ttm(learner, source, self.power)


def wttm(student_logits: Tensor, teacher_logits: Tensor, power: float = 0.1) -> Tensor:
    """Weighted TTM: each sample's `ttm` times U = sum of p_t^g, large where the teacher is unsure (arXiv:2402.11148).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        power: the exponent g, as in `ttm`; 0.2 where the paper adds CRD.

    >>> import torch
    >>> S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]])
    >>> round(wttm(S, T).item(), 4)
    0.8503
    """
    terms = _transformed_kl(student_logits, teacher_logits, power)
    return ((power * log_probabilities(teacher_logits)).exp().sum(1) * terms).mean()


@dataclass(eq=False, repr=False)
class WTTM(Loss):
    """`wttm` as a module: loss(student_logits, teacher_logits)."""

    power: float = 0.1

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return wttm(learner, source, self.power)
