"""The learning rate by a range test: raise it step by step, and stop where the loss does."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import torch

from attar.accel.runtime import Runtime
from attar.data import Loader
from attar.methods import Method
from attar.methods.base import no_grad_clone
from attar.recipe import Recipe
from attar.train.optim import optimiser

# So many steps, from this part of the optimiser's own rate to this multiple of it.
STEPS, LEAST, MOST = 60, 1e-3, 30.0
# Of the loss's running mean: its weight, and the multiple of the lowest at which the test ends.
SMOOTH, DIVERGED = 0.85, 2.0
# A tenth of where the loss is lowest: beyond that it is about to diverge.
BELOW = 0.1


def find_rate(method: Method, loader: Loader, recipe: Recipe, runtime: Runtime) -> float:
    """The highest learning rate for a schedule: a tenth of where the smoothed loss of a rising rate is lowest.

    It takes at most 60 steps, which wait for the device.

    The range test of Smith (arXiv:1506.01186). The method is left as it was.

    Args:
        method: what is to be trained, on its device.
        loader: of its training.
        recipe: with the optimiser, which takes one backward pass a step; its lr is the middle of the range.
        runtime: what it computes with.
    """
    state = no_grad_clone(method.state_dict())
    optimisers = {phase: optimiser(method.trainable(phase), recipe.optim) for phase in method.phases}
    rates = [recipe.optim.lr * LEAST * (MOST / LEAST) ** (step / (STEPS - 1)) for step in range(STEPS)]
    batches = itertools.chain.from_iterable(loader.epoch(epoch) for epoch in itertools.count())
    mean, best, found = 0.0, math.inf, recipe.optim.lr
    method.train()
    try:
        with torch.random.fork_rng(devices=[]):
            for step, (rate, batch) in enumerate(zip(rates, batches, strict=False), 1):
                total = 0.0
                for phase, one in optimisers.items():
                    with runtime.computing():
                        losses = method.batch_losses(replace(batch, phase=phase))
                    losses.total.backward()
                    for group in one.param_groups:
                        group["lr"] = rate
                    one.step()
                    one.zero_grad(set_to_none=True)
                    total += float(losses.total.detach())
                mean = SMOOTH * mean + (1 - SMOOTH) * total
                loss = mean / (1 - SMOOTH**step)
                if not math.isfinite(loss) or loss > DIVERGED * best:
                    break
                if loss < best:
                    best, found = loss, rate
    finally:
        method.load_state_dict(state)
    return _rounded(BELOW * found)


def _rounded(rate: float) -> float:
    """Two digits, as people write rates."""
    return float(f"{rate:.1e}")
