"""Which taps and logits a method reads from its frozen networks, found by running it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attar.batch import Batch, Inputs, seed_global_generators
from attar.knowledge import Output
from attar.methods import Method
from attar.methods.common.trial import unchanged
from attar.models import Engine, Frozen


@dataclass(frozen=True)
class TeacherUsage:
    """What a method reads from one of its frozen networks.

    Attributes:
        taps: the features.
        own_images: whether the network sees the batch's images themselves, not others made of them.
        output: the shape of its output without the batch; () where it was not run.
    """

    taps: tuple[str, ...]
    own_images: bool
    output: tuple[int, ...] = ()


def teacher_usage(method: Method, batch: Batch) -> list[TeacherUsage]:
    """What a method reads from each of its frozen networks, found by one forward pass; the method stays as it was."""
    with _recording(method, batch.inputs) as recorders, unchanged(method):
        for phase in method.phases:
            method.batch_losses(replace(batch, phase=phase))
    return [TeacherUsage(tuple(one.taps), not one.others, one.output) for one in recorders]


def ignores_logits(method: Method, frozen: Frozen, batch: Batch) -> bool:
    """Whether no loss follows from the logits of a frozen network, found by making them NaN.

    A method that reads them in later epochs only is not noticed, and fails when it does.
    """
    true = _terms(method, batch)
    engine, frozen.engine = frozen.engine, _NanLogits(frozen.engine)
    try:
        without = _terms(method, batch)
    finally:
        frozen.engine = engine
    return all(torch.equal(one, other) for one, other in zip(true, without, strict=True))


def _terms(method: Method, batch: Batch) -> list[Tensor]:
    """Every loss of every phase."""
    with unchanged(method), torch.random.fork_rng(devices=[]):
        seed_global_generators(0, batch.labels.device)
        return [
            term for phase in method.phases for term in method.batch_losses(replace(batch, phase=phase)).terms.values()
        ]


class _Recording:
    """An engine that records the taps and images that another is called with."""

    name = "recording"

    def __init__(self, engine: Engine, own: Inputs) -> None:
        self.engine, self.own = engine, own
        self.taps: dict[str, None] = {}
        self.others = False
        self.output: tuple[int, ...] = ()

    def __call__(self, images: Tensor, taps: tuple[str, ...] = ()) -> Output:
        self.taps.update(dict.fromkeys(taps))
        self.others |= images is not self.own
        output = self.engine(images, taps)
        self.output = tuple(output.logits.shape[1:])
        return output


class _NanLogits:
    """An engine whose logits are NaN."""

    name = "nan"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, images: Tensor, taps: tuple[str, ...] = ()) -> Output:
        output = self.engine(images, taps)
        return Output(torch.full_like(output.logits, torch.nan), output.taps)


@contextmanager
def _recording(method: Method, images: Inputs) -> Iterator[list[_Recording]]:
    held = list(method.frozen())
    recorders = [_Recording(frozen.engine, images) for frozen in held]
    for frozen, recorder in zip(held, recorders, strict=True):
        frozen.engine = recorder
    try:
        yield recorders
    finally:
        for frozen, recorder in zip(held, recorders, strict=True):
            frozen.engine = recorder.engine
