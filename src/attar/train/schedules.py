"""Learning-rate schedules as plain functions of how much of the training is done."""

from __future__ import annotations

import math
from dataclasses import replace

from attar.choices import SCHEDULES, register_schedule
from attar.errors import AttarError
from attar.recipe import OptimRecipe

# One-cycle: 30 % of the training up from lr/25, then down to practically nothing (Smith's policy, as in PyTorch).
RISE, START, END = 0.3, 1 / 25, 1 / 250_000


def learning_rate(optim: OptimRecipe, step: int, steps_per_epoch: int, epochs: int) -> float:
    """The learning rate of a step counted over the whole run; schedules fall to optim.min_lr, not below.

    >>> recipe = OptimRecipe(lr=1.0, schedule="multistep", milestones=[0.5])
    >>> [round(learning_rate(recipe, step, 10, 2), 3) for step in (0, 9, 10, 19)]
    [1.0, 1.0, 0.1, 0.1]
    """
    schedule, total = SCHEDULES[optim.schedule], steps_per_epoch * epochs
    rising = optim.warmup * steps_per_epoch
    if schedule.warmup and step < rising:
        # The last step of a warm-up that ends within a step is at the full rate, not above.
        return optim.lr * min(1.0, (step + 1) / rising)
    done = (step - rising) / (total - rising) if schedule.from_warmup else step / total
    return optim.min_lr + (optim.lr - optim.min_lr) * schedule.factor(done, optim)


def check_warmup(optim: OptimRecipe, epochs: int) -> None:
    """Refuse a warm-up that the training does not reach the end of.

    Raises:
        AttarError: it is longer than the training, and the schedule has one.
    """
    if SCHEDULES[optim.schedule].warmup and optim.warmup > epochs:
        raise AttarError(
            f"optim.warmup={optim.warmup:g} epochs are longer than the training, epochs={epochs}; give a shorter "
            "warm-up or more epochs"
        )


def for_epochs(optim: OptimRecipe, epochs: int, whole: int) -> OptimRecipe:
    """The settings for fewer epochs than the recipe's: a warm-up longer than these keeps its part of the training.

    >>> for_epochs(OptimRecipe(warmup=5), 2, 20).warmup, for_epochs(OptimRecipe(warmup=5), 10, 20).warmup
    (0.5, 5)
    """
    return replace(optim, warmup=optim.warmup * epochs / whole) if optim.warmup > epochs else optim


@register_schedule("onecycle", title="30 % of the training up from lr/25, then down to lr/250,000", warmup=False)
def one_cycle(done: float, _: OptimRecipe) -> float:
    """Up along half a cosine, then down along another."""
    if done < RISE:
        return _cosine(START, 1.0, done / RISE)
    return _cosine(1.0, END, (done - RISE) / (1 - RISE))


@register_schedule("cosine", title="half a cosine down to 0")
def cosine(done: float, _: OptimRecipe) -> float:
    """Half a cosine from 1 to 0."""
    return _cosine(1.0, 0.0, done)


@register_schedule("linear", title="a straight line down to 0 from the end of the warm-up", from_warmup=True)
def linear(done: float, _: OptimRecipe) -> float:
    """A straight line from 1 to 0 (budgeted training, arXiv:1905.04753)."""
    return 1.0 - done


@register_schedule("rex", title="slow at first, then faster down to 0, from the end of the warm-up", from_warmup=True)
def rex(done: float, _: OptimRecipe) -> float:
    """z / (1/2 + z/2) with z = 1 - done (REX, arXiv:2107.04197).

    >>> round(rex(0.5, OptimRecipe()), 4)
    0.6667
    """
    left = 1.0 - done
    return left / (0.5 + 0.5 * left)


@register_schedule("multistep", title="times optim.gamma at each of optim.milestones")
def multi_step(done: float, optim: OptimRecipe) -> float:
    """A factor gamma at each milestone."""
    return float(optim.gamma ** sum(done >= milestone for milestone in optim.milestones))


@register_schedule("constant", title="no change")
def constant(_: float, __: OptimRecipe) -> float:
    """No change."""
    return 1.0


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
