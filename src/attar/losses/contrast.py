"""Contrastive distillation: an image's own embedding against those of other classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.losses.checks import check_positive
from attar.losses.loss import Loss
from attar.losses.numerics import product, widen

# So many remembered embeddings are compared at a time, which bounds the memory of a large data set.
ROWS = 65536
# And so many similarities, which bounds that of a large batch: 32 MB of them.
SIMILARITIES = 2**23


def parts_of(tensor: Tensor, batch: int) -> tuple[Tensor, ...]:
    """Rows that are compared with a batch at a time.

    >>> [len(part) for part in parts_of(torch.zeros(100_000), 256)]
    [32768, 32768, 32768, 1696]
    """
    return tensor.split(min(ROWS, max(SIMILARITIES // batch, 1)))


def contrast(
    student: Tensor,
    memory: Tensor,
    index: Tensor,
    classes: Tensor,
    log_normaliser: Tensor,
    temperature: float = 0.07,
    negatives: int = 16384,
) -> Tensor:
    """Noise-contrastive estimation over remembered embeddings, one direction of CRD (arXiv:1910.10699).

    With P(v, j) = exp(v m_j / T) / Z and h = P / (P + K / N), the mean over the batch of
    -log h(v_i, own) - sum over K others of log(1 - h(v_i, j)). It is computed as softplus, without P. The memory gets
    no gradient and may change before the backward pass.

    Deviates: the K images of other classes are not drawn; all of them count, with the weight that makes their sum what
    K drawn ones give on average. Value and gradient are those of the authors' code in expectation, without its noise,
    and one matrix product takes the place of B x K gathered vectors. Their 1e-7 inside the logarithms is left out.

    Args:
        student: (B, D) embeddings, of length 1 in CRD.
        memory: (N, D) what is remembered of every image.
        index: (B,) each sample's own row of the memory.
        classes: (N,) the class of each row.
        log_normaliser: log Z, a scalar.
        temperature: T (0.07).
        negatives: K (16384).

    Raises:
        AttarError: the temperature is not above 0.

    >>> memory, scores = torch.eye(5), torch.tensor([[0.8, 0.1, 0.2, 0.0, -0.3]])
    >>> classes, log_z = torch.tensor([0, 1, 1, 2, 2]), torch.tensor(1000.0 / 20).log()
    >>> round(contrast(scores, memory, torch.tensor([0]), classes, log_z, negatives=4).item(), 4)
    0.4861
    """
    check_positive("temperature", temperature)
    student, memory = widen(student), widen(memory.detach())
    shift = widen(log_normaliser).detach() + math.log(negatives / len(memory))
    value, gradient = _each(student.detach(), memory, index, classes, shift, temperature, negatives)
    # The value of the one with the gradient of the other: nothing of the memory is kept for the backward pass.
    return (value + ((student - student.detach()) * gradient).sum(1)).mean()


@torch.no_grad()
def _each(
    student: Tensor,
    memory: Tensor,
    index: Tensor,
    classes: Tensor,
    shift: Tensor,
    temperature: float,
    negatives: int,
) -> tuple[Tensor, Tensor]:
    """(B,) each sample's loss and (B, D) its gradient, where shift is log(Z K / N)."""
    own, mine = classes[index], memory[index]
    apart, gradient, others = torch.zeros_like(student[:, 0]), torch.zeros_like(student), torch.zeros_like(own)
    for rows, theirs in zip(parts_of(memory, len(own)), parts_of(classes, len(own)), strict=True):
        # (rows, B) and not the other way round: a processor's matrix product is a third faster so.
        gaps = product(rows, student.mT).div_(temperature).sub_(shift)
        same = theirs[:, None] == own
        apart += F.softplus(gaps.masked_fill_(same, -math.inf)).sum(0)
        gradient += product(gaps.sigmoid_().mT, rows)
        others += len(rows) - same.sum(0)
    weight = negatives / others.clamp(min=1).to(student.dtype)
    gap = shift - (student * mine).sum(1) / temperature
    value = F.softplus(gap) + weight * apart
    return value, (weight[:, None] * gradient - gap.sigmoid()[:, None] * mine) / temperature


def log_mean_score(student: Tensor, memory: Tensor, temperature: float = 0.07) -> Tensor:
    """log(N * mean of exp(v m / T)): the log Z that makes P a mean of 1 / N over a first batch.

    >>> round(log_mean_score(torch.zeros(2, 3), torch.zeros(5, 3)).exp().item(), 4)
    5.0
    """
    together = parts_of(widen(memory), len(student))
    parts = [(product(widen(student), rows.mT) / temperature).logsumexp((0, 1)) for rows in together]
    return torch.stack(parts).logsumexp(0) - math.log(len(student))


@dataclass(eq=False, repr=False)
class Contrast(Loss):
    """`contrast` as a module: loss(student, memory, index, classes, log_normaliser)."""

    temperature: float = 0.07
    negatives: int = 16384

    def forward(
        self, learner: Tensor, source: Tensor, index: Tensor, classes: Tensor, log_normaliser: Tensor
    ) -> Tensor:
        return contrast(learner, source, index, classes, log_normaliser, self.temperature, self.negatives)
