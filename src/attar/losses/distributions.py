"""A divergence between predicted distributions: diagonal Gaussians in closed form."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attar.losses.checks import check_same_shape, reduced
from attar.losses.loss import Loss
from attar.losses.numerics import widen

Gaussian = tuple[Tensor, Tensor]


def gaussian_kl(
    mu_s: Tensor,
    logvar_s: Tensor,
    mu_t: Tensor,
    logvar_t: Tensor,
    reduction: str = "batchmean",
    clamp: tuple[float, float] | None = (-10.0, 10.0),
) -> Tensor:
    """KL(N(mu_t, var_t) || N(mu_s, var_s)) of diagonal Gaussians: the feature term of UniKD.

    Per dimension [log(var_s / var_t) + (var_t + (mu_t - mu_s)^2) / var_s - 1] / 2.

    Deviates: UniKD's text leaves direction and reduction open; the teacher comes first, as in KD. The clamp is ours.

    Args:
        mu_s: (B, K) the learner's means.
        logvar_s: (B, K) its log-variances.
        mu_t: (B, K) the source's means.
        logvar_t: (B, K) its log-variances.
        reduction: "batchmean" (sum over dimensions, mean over the batch), "mean", "sum" or "none" (B, K).
        clamp: the range log-variances are held to; outside it they get no gradient. None leaves them alone.

    >>> import torch
    >>> zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    >>> gaussian_kl(one, zero, zero, zero).item()  # KL(N(0, 1) || N(1, 1))
    0.5
    """
    for other in (logvar_s, mu_t, logvar_t):
        check_same_shape(mu_s, other, "means and log-variances of both sides share one shape")
    mu_s, logvar_s, mu_t, logvar_t = (widen(tensor) for tensor in (mu_s, logvar_s, mu_t, logvar_t))
    if clamp is not None:
        logvar_s, logvar_t = logvar_s.clamp(*clamp), logvar_t.clamp(*clamp)
    log_ratio = logvar_t - logvar_s
    terms = (log_ratio.exp() - 1.0 - log_ratio + (mu_t - mu_s).square() * (-logvar_s).exp()) / 2.0
    return reduced(terms, reduction)


@dataclass(eq=False, repr=False)
class GaussianKL(Loss):
    """`gaussian_kl` as a module: loss((mu_s, logvar_s), (mu_t, logvar_t))."""

    reduction: str = "batchmean"
    clamp: tuple[float, float] | None = (-10.0, 10.0)

    def forward(self, learner: Gaussian, source: Gaussian) -> Tensor:
        return gaussian_kl(*learner, *source, reduction=self.reduction, clamp=self.clamp)
