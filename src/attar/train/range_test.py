"""The learning rate by a range test: raise it step by step, and stop where the loss does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from rich.console import Console

from attar.accel.runtime import Runtime
from attar.batch import Address, Batch
from attar.data import Loader
from attar.knowledge import Losses
from attar.methods import Method
from attar.methods.base import no_grad_clone
from attar.recipe import Recipe
from attar.train.loop import Fit, Places
from attar.train.progress import Progress

# So many steps, from this part of the optimiser's own rate to this multiple of it.
STEPS, LEAST, MOST = 60, 1e-3, 30.0
# Of the loss's running mean: its weight, and the multiple of the lowest at which the test ends.
SMOOTH, DIVERGED = 0.85, 2.0
# A tenth of where the loss is lowest: beyond that it is about to diverge.
BELOW = 0.1


def find_rate(method: Method, loader: Loader, recipe: Recipe, runtime: Runtime, places: Places) -> float:
    """The highest learning rate for a schedule: a tenth of where the smoothed loss of a rising rate is lowest.

    It takes at most 60 updates as the training makes them, which wait for the device.

    The range test of Smith (arXiv:1506.01186). The method's state is left as it was.

    Args:
        method: what is to be trained, on its device and prepared.
        loader: of its training.
        recipe: with the optimiser, which takes one backward pass a step; its lr is the middle of the range.
        runtime: what it computes with.
        places: of the training, which has not begun.
    """
    state = no_grad_clone(method.state_dict())
    rates = [recipe.optim.lr * LEAST * (MOST / LEAST) ** (step / (STEPS - 1)) for step in range(STEPS)]
    batches = itertools.chain.from_iterable(loader.epoch(epoch) for epoch in itertools.count())
    mean, best, found = 0.0, math.inf, recipe.optim.lr
    try:
        with torch.random.fork_rng(devices=[]):
            run = Rising(method, loader, recipe, runtime, places)
            for step, rate in enumerate(rates, 1):
                mean = SMOOTH * mean + (1 - SMOOTH) * run.update_at(rate, batches)
                loss = mean / (1 - SMOOTH**step)
                if not math.isfinite(loss) or loss > DIVERGED * best:
                    break
                if loss < best:
                    best, found = loss, rate
    finally:
        method.load_state_dict(state)
    return _rounded(BELOW * found)


class Rising(Fit):
    """A training whose rate is given for each update, in place of the schedule's.

    Args:
        method, loader, recipe, runtime, places: as of `find_rate`.
    """

    def __init__(self, method: Method, loader: Loader, recipe: Recipe, runtime: Runtime, places: Places) -> None:
        # The training that follows prints what there is to say of the recipe.
        silent = Progress(Console(quiet=True), "range test", STEPS, 1, loader.batch_size)
        super().__init__(method, loader, None, recipe, replace(runtime, compiled=False), places, silent)
        self._given, self._seen, losses_of = 0.0, 0.0, self.losses_of

        def noted(batch: Batch) -> Losses:
            losses = losses_of(batch)
            self._seen += float(losses.total.detach())
            return losses

        self.losses_of = noted
        self.start_epoch(0)

    def rate_at(self, address: Address) -> float:
        """The one that was given."""
        return self._given

    def update_at(self, rate: float, batches: Iterator[Batch]) -> float:
        """One update with the next batches; their mean loss, summed over the phases."""
        self._given, self._seen, count = rate, 0.0, 0
        for batch in batches:
            self.step(batch)
            count += 1
            if self.completes_group(batch.address.step):
                break
        return self._seen / count


def _rounded(rate: float) -> float:
    """Two digits, as people write rates."""
    return float(f"{rate:.1e}")
