"""Trainings that go on step by step: each is a generator that yields after every step and returns its result."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

import torch

from attar.safety.signals import stop_requests

Result = TypeVar("Result")
Steps = Generator[None, None, Result]


def finish(steps: Steps[Result]) -> Result:
    """One training from here to its end, and what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def take_turns(trainings: Sequence[Steps[Result]]) -> list[Result]:
    """Several trainings in one process, a step of each in turn, and what each returns.

    When one raises, or the process is asked to stop, the others save their state after the step in hand; then the first
    exception is raised.

    >>> def count(last):
    ...     for number in range(last):
    ...         yield print(f"step {number} of {last}")
    ...     return last
    >>> take_turns([count(1), count(2)])
    step 0 of 1
    step 0 of 2
    step 1 of 2
    [1, 2]
    """
    results: dict[int, Result] = {}
    raised: Exception | None = None
    going = dict(enumerate(trainings))
    # Each sets the generator in every step and puts it back in the end, not in the order they began.
    with stop_requests() as stop, torch.random.fork_rng(devices=[]):
        while going:
            for number, training in list(going.items()):
                try:
                    next(training)
                    continue
                except StopIteration as end:
                    results[number] = end.value
                except Exception as error:
                    raised, stop.requested = raised or error, True
                del going[number]
    if raised:
        raise raised
    return [results[number] for number in range(len(trainings))]
