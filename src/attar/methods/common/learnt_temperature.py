"""A temperature that is a parameter, learnt against the student: CTKD's, for any loss on logits that has one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from attar.errors import AttarError
from attar.knowledge import ScaledGradient
from attar.losses.checks import check_positive
from attar.losses.numerics import widen


class LearntTemperature(nn.Module):
    """Another loss on logits, its temperature learnt: loss(learner, source, *given, epoch).

    T = start + span * sigmoid(theta). The gradient of theta, and nothing else, is multiplied by `reversal(epoch)`, so
    that theta makes the loss larger as the student makes it smaller (CTKD, Li et al., arXiv:2211.16231). Theta is one
    number, or with `classes` one for each image, from two linear layers with ReLU between them that read both networks'
    detached logits; their last layer starts at 0 with bias 1, so that T starts alike for all.

    Args:
        loss: a loss with the attribute `temperature`, which takes a tensor there.
        start: the smallest T (1).
        span: how much larger T may become (20).
        loops: epochs until theta's gradient is fully reversed (10).
        classes: of both networks, which makes theta differ between images; None: one theta.

    Raises:
        AttarError: the loss has no temperature, or the smallest T is not above 0.

    >>> from attar.losses import KLDivergence
    >>> round(LearntTemperature(KLDivergence()).temperature().item(), 4)
    15.6212
    """

    def __init__(
        self, loss: nn.Module, start: float = 1.0, span: float = 20.0, loops: int = 10, *, classes: int | None = None
    ) -> None:
        super().__init__()
        if not isinstance(getattr(loss, "temperature", None), int | float):
            raise AttarError(f"{type(loss).__name__} has no temperature to be learnt; choose a loss that has one (KL)")
        check_positive("start, the smallest temperature,", start)
        check_positive("span, how much larger it may become,", span)
        self.loss, self.start, self.span, self.loops = loss, start, span, loops
        self.counts = getattr(loss, "counts", False)
        if classes is None:
            self.theta = nn.Parameter(torch.ones(1))
        else:
            last = nn.Linear(classes, 1)
            nn.init.zeros_(last.weight)
            nn.init.ones_(last.bias)
            self.predictor = nn.Sequential(nn.Linear(2 * classes, classes), nn.ReLU(), last)

    def thetas(self, learner: Tensor, source: Tensor) -> Tensor:
        """Theta: one number (), or (B, 1)."""
        if not hasattr(self, "predictor"):
            return self.theta[0]
        theta: Tensor = self.predictor(torch.cat([learner.detach(), source.detach()], 1))
        return widen(theta)

    def temperature(self) -> Tensor:
        """(1,): T as it is now, where one theta serves all images."""
        return self.start + self.span * self.theta.sigmoid()

    def forward(self, learner: Tensor, source: Tensor, *given: Tensor, **weight: Tensor) -> Tensor:
        *rest, epoch = given
        # Epochs are counted from 1, as in the authors' code: from 0, the first epoch would not move theta.
        theta = ScaledGradient.apply(self.thetas(learner, source), reversal(epoch + 1, self.loops))
        loss = copy.copy(self.loss)
        loss.temperature = self.start + self.span * theta.sigmoid()
        return loss(learner, source, *rest, **weight)


def reversal(epoch: Tensor, loops: int) -> Tensor:
    """Lambda: (cos(pi * epoch / loops) - 1) / 2 until `loops`, -1 from there on.

    >>> [round(reversal(torch.tensor(float(epoch)), 10).item(), 6) + 0.0 for epoch in (0, 5, 10, 200)]
    [0.0, -0.5, -1.0, -1.0]
    """
    done = (epoch / loops).clamp(max=1.0) if loops > 0 else torch.ones_like(epoch)
    return ((torch.pi * done).cos() - 1) / 2
