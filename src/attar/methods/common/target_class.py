"""Edges parted into what they teach of the label's own class and of the other classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attar.knowledge import Transfer
from attar.losses.decoupled import OtherClasses
from attar.losses.loss import target_class

TARGET = "target"


def parted(edges: Sequence[Transfer]) -> tuple[Transfer, ...]:
    """The edges; in place of one with a part of the label's own class two, "KEY:target class" and "KEY:other classes".

    The two add up to the edge, and the first has the component "target". An edge is parted whose loss has such a part
    (`Loss.target_class`: KL, its confident and its multi-level form, DKD, NKD, RLD, SDD, and each of them on
    standardised logits), and that reads the labels or whose learner the labels teach as well. So KL on images that a
    method mixes itself stays whole.

    >>> from attar.losses import CrossEntropy, KLDivergence
    >>> labels = Transfer("labels", "student.logits", CrossEntropy())
    >>> [edge.key for edge in parted([labels, Transfer("teacher.logits", "student.logits", KLDivergence())])][1:]
    ['teacher.logits->student.logits:target class', 'teacher.logits->student.logits:other classes']
    """
    labelled = {(edge.target, edge.phase) for edge in edges if edge.source == "labels"}
    return tuple(part for edge in edges for part in _parts(edge, (edge.target, edge.phase) in labelled))


def _parts(edge: Transfer, labelled: bool) -> list[Transfer]:
    reads = "labels" in edge.given
    target = target_class(edge.loss) if edge.component == "distillation" and (reads or labelled) else None
    if target is None:
        return [edge]
    given = edge.given if reads else (*edge.given, "labels")
    others = OtherClasses(edge.loss, target, len(edge.given))
    return [
        replace(edge, loss=target, given=given, name=f"{edge.key}:target class", component=TARGET),
        replace(edge, loss=others, given=given, name=f"{edge.key}:other classes"),
    ]
