"""How much each of several teachers counts, for methods that read a teacher's logits or pooled features."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.batch import Batch
from attar.errors import AttarError, unknown
from attar.losses.numerics import widen
from attar.losses.teachers import entropy_shares
from attar.models.frozen_ensemble import TeacherRule
from attar.schedules import read_call


def mean(batch: Batch, logits: Sequence[Tensor]) -> Tensor:
    """(teachers, 1): all alike."""
    return widen(logits[0]).new_full((len(logits), 1), 1 / len(logits))


def fixed(batch: Batch, logits: Sequence[Tensor], *, weights: Sequence[float]) -> Tensor:
    """(teachers, 1): the given weights, divided by their sum."""
    return widen(logits[0]).new_tensor(weights)[:, None] / sum(weights)


def entropy(batch: Batch, logits: Sequence[Tensor]) -> Tensor:
    """(teachers, B): (1 - H_k / sum of H) / (teachers - 1), so that sure teachers count more (EBKD)."""
    return entropy_shares(_classes("entropy", logits)) / (len(logits) - 1)


def confidence(batch: Batch, logits: Sequence[Tensor]) -> Tensor:
    """(teachers, B): (1 - softmax over teachers of their cross-entropy) / (teachers - 1): those that are right count
    more (CA-MKD); all alike where an image has no label.
    """
    each = torch.stack([_hardness(one, batch) for one in _classes("confidence", logits)])
    return (1 - each.softmax(0)) / (len(logits) - 1)


def routed(batch: Batch, logits: Sequence[Tensor], *, pace: int) -> Tensor:
    """(teachers, B): 1 for the one teacher of each image, by its difficulty for the first teacher (CES-KD)."""
    hardness = _hardness(_classes("routed", logits)[0], batch)
    chosen = route(ranks(hardness, batch), unlocked(batch.address.epoch, pace, len(logits)))
    return F.one_hot(chosen, len(logits)).mT.to(widen(logits[0]))


def dropped(batch: Batch, logits: Sequence[Tensor], *, keep: float) -> Tensor:
    """(teachers, 1): each teacher stays for a batch with a probability, at least one; those that stay count alike
    (after DGKD).
    """
    draws = torch.rand(len(logits), generator=batch.rng("drop"), device=batch.device)
    # Of those drawn, the smallest draw stays whatever the probability.
    stays = (draws < keep).to(draws).index_fill(0, draws.argmin()[None], 1.0)
    return (stays / stays.sum())[:, None]


def ranks(hardness: Tensor, batch: Batch) -> Tensor:
    """(B,): each row's rank by hardness in the whole batch, which several processes may share, from 0 to 1.

    >>> ranks(torch.tensor([0.3, 2.0, 0.1]), Batch(torch.zeros(3, 1), torch.zeros(3))).tolist()
    [0.5, 1.0, 0.0]
    """
    return batch.own(batch.all_rows(hardness).argsort().argsort()) / max(batch.whole - 1, 1)


def route(difficulty: Tensor, unlocked: int) -> Tensor:
    """(B,) numbers of teachers, from 0, of images whose difficulty is in 0..1.

    >>> route(torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0]), 3).tolist()
    [0, 0, 1, 2, 2]
    """
    return (difficulty * unlocked).long().clamp(max=unlocked - 1)


def unlocked(epoch: int, pace: int, teachers: int) -> int:
    """How many teachers are in use in an epoch, all after `pace` epochs.

    >>> [unlocked(epoch, 4, 2) for epoch in (0, 1, 2, 9)]
    [1, 1, 2, 2]
    """
    return math.ceil(min((epoch + 1) / max(pace, 1), 1.0) * teachers)


def _classes(rule: str, logits: Sequence[Tensor]) -> Sequence[Tensor]:
    if logits[0].ndim != 2:
        raise AttarError(f"teachers={rule} weighs class logits (B, K), got {tuple(logits[0].shape)}; choose mean")
    return logits


def _hardness(logits: Tensor, batch: Batch) -> Tensor:
    """(B,): the cross-entropy with each row's label; 0 where it has none."""
    return F.cross_entropy(widen(logits), batch.labels, reduction="none", ignore_index=-1)


@dataclass(frozen=True)
class Maker:
    """A rule before its numbers are known.

    Attributes:
        make: make(*numbers) gives shares(batch, logits).
        takes: what the numbers are, for messages.
        reads_labels: as of a `TeacherRule`.
    """

    make: Callable[..., Callable[[Batch, Sequence[Tensor]], Tensor]]
    takes: str = ""
    reads_labels: bool = False


RULES = {
    "mean": Maker(lambda: mean),
    "fixed": Maker(lambda *weights: partial(fixed, weights=weights), "a weight for each teacher"),
    "entropy": Maker(lambda: entropy),
    "confidence": Maker(lambda: confidence, reads_labels=True),
    "routed": Maker(lambda pace=20: partial(routed, pace=pace), "epochs until all teachers are in use", True),
    "dropped": Maker(lambda keep=0.75: partial(dropped, keep=keep), "the probability that a teacher stays"),
}


def read_rule(text: str, teachers: int) -> TeacherRule:
    """A rule from its text.

    Args:
        text: "mean", "fixed(0.7, 0.3)", "entropy", "confidence", "routed(20)" or "dropped(0.75)".
        teachers: how many there are.

    Raises:
        AttarError: there is no such rule, or it does not take these numbers.

    >>> read_rule("fixed(3, 1)", 2).shares(Batch(torch.zeros(1, 1), torch.zeros(1)), [torch.zeros(1, 2)] * 2).tolist()
    [[0.75], [0.25]]
    """
    name, numbers = read_call(str(text))
    if name not in RULES:
        raise unknown("value of teachers:", name or str(text), RULES)
    if name == "fixed" and (len(numbers) != teachers or min(numbers) < 0 or not sum(numbers)):
        raise AttarError(f"teachers={text}: give {teachers} weights, none below 0, for {teachers} teachers")
    if name == "routed" and numbers and numbers[0] < 0:
        raise AttarError(f"teachers={text}: the epochs until all teachers are in use are 0 or more")
    if name == "dropped" and numbers and not 0 < numbers[0] <= 1:
        raise AttarError(f"teachers={text}: the probability that a teacher stays is above 0 and at most 1")
    try:
        return TeacherRule(str(text), RULES[name].make(*numbers), RULES[name].reads_labels)
    except TypeError:
        takes = RULES[name].takes or "no numbers"
        raise AttarError(f"teachers: {name} takes {takes}, got {text!r}") from None
