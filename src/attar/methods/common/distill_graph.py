"""Distillation as a matrix: objects, the ensembles they form, and who learns from whom.

RECONSTRUCTED: the abstract of UAKD promises one framework with the known methods as special cases; this form of it is
ours. An object is anything with logits. Row i of the matrix: from whom object i learns. In mixture mode the row
is the ensemble whose logits teach i; in pairwise mode each entry is the weight of an edge of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from attar.errors import AttarError, unknown
from attar.knowledge import Knowledge, Transfer
from attar.losses import CrossEntropy, KLDivergence
from attar.losses.numerics import widen
from attar.schedules import ExponentialRampUp

Row = Mapping[str, float]
Mode = Literal["mixture", "pairwise"]


@dataclass(frozen=True)
class Imitation:
    """One learner compared with one source, an object or an ensemble."""

    learner: str
    source: str
    weight: float = 1.0


@dataclass(frozen=True)
class DistillGraph:
    """Who learns from whom, before any network is there.

    L = sum of labels_i CE(o_i) + alpha ramp(epoch) * sum over imitations of weight D(learner <- source).

    Attributes:
        objects: their names, the deployed one first.
        imitations: who is compared with whom.
        ensembles: each ensemble's share of every object, or of an earlier ensemble.
        labels: the weight of the labels for objects and ensembles.
        loss: D, called as loss(learner's logits, source's logits).
        detach: whether sources are outside the graph.
        learned: the ensembles whose shares are learnt for each sample; their rows here are where they start.
    """

    objects: tuple[str, ...]
    imitations: tuple[Imitation, ...]
    ensembles: Mapping[str, Row] = field(default_factory=dict)
    labels: Mapping[str, float] = field(default_factory=dict)
    loss: nn.Module = field(default_factory=lambda: KLDivergence(3.0))
    detach: bool = True
    learned: tuple[str, ...] = ()

    def row(self, source: str) -> dict[str, float]:
        """The share of each object in a source."""
        if source not in self.ensembles:
            return {source: 1.0}
        shares: dict[str, float] = {}
        for part, share in self.ensembles[source].items():
            for name, amount in self.row(part).items():
                shares[name] = shares.get(name, 0.0) + share * amount
        return shares

    @property
    def matrix(self) -> list[list[float]]:
        """Row i, column j: with what weight object i learns from object j."""
        rows = {name: dict.fromkeys(self.objects, 0.0) for name in self.objects}
        for imitation in self.imitations:
            for name, share in self.row(imitation.source).items():
                rows[imitation.learner][name] += imitation.weight * share
        return [list(row.values()) for row in rows.values()]

    def enter(self, knowledge: Knowledge, learned: Mapping[str, Tensor] | None = None) -> Knowledge:
        """Add each ensemble's logits to the knowledge, with the shares (B, n) of the learned ones."""
        learned = learned or {}
        for name, row in self.ensembles.items():
            shares = learned[name].split(1, dim=1) if name in learned else list(row.values())
            knowledge.add(f"{name}.logits", mixture([_logits(knowledge, part) for part in row], shares))
        return knowledge

    def transfers(self, alpha: float = 1.0, ramp: int = 0) -> Iterator[Transfer]:
        """The edges: the labels', then the imitations', whose weights ramp up over `ramp` epochs (0: at once)."""
        for name, weight in self.labels.items():
            yield Transfer("labels", f"{name}.logits", CrossEntropy(), weight=weight)
        for imitation in self.imitations:
            weight = alpha * imitation.weight
            yield Transfer(
                f"{imitation.source}.logits",
                f"{imitation.learner}.logits",
                self.loss,
                weight=ExponentialRampUp(ramp, weight) if ramp else weight,
                learns="target" if self.detach else "both",
            )

    def __str__(self) -> str:
        return matrix_table(self.objects, self.matrix)


def _logits(knowledge: Knowledge, name: str) -> Tensor:
    logits = knowledge[f"{name}.logits"]
    assert isinstance(logits, Tensor)
    return logits


def mixture(logits: Sequence[Tensor], shares: Sequence[float | Tensor]) -> Tensor:
    """The sum of logits, each with its share (a number, or (B, 1)), in float32 at least.

    >>> mixture([torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])], [0.5, 0.5])
    tensor([[1., 2.]])
    """
    return torch.stack([share * widen(one) for one, share in zip(logits, shares, strict=True)]).sum(0)


def matrix_table(names: Sequence[str], matrix: Sequence[Sequence[float]]) -> str:
    """A matrix as text, learners down, teachers across; `matrix_table(*method.graph.matrix())` suits any method.

    >>> print(matrix_table(["student", "teacher"], [[0, 1], [0, 0]]))
            student teacher
    student       .       1
    teacher       .       .
    """
    cells = [[f"{entry:.3g}" if entry else "." for entry in row] for row in matrix]
    columns = [[name, *column] for name, column in zip(names, zip(*cells, strict=True), strict=True)]
    padded = [[cell.rjust(max(map(len, column))) for cell in column] for column in columns]
    sides = [name.ljust(max(map(len, names))) for name in ("", *names)]
    return "\n".join(" ".join(line) for line in zip(sides, *padded, strict=True))


def mean_of(names: Sequence[str]) -> dict[str, float]:
    """Equal shares.

    >>> mean_of(["a", "b"])
    {'a': 0.5, 'b': 0.5}
    """
    return {name: 1 / len(names) for name in names}


def others(names: Sequence[str], name: str) -> list[str]:
    """All but one."""
    return [other for other in names if other != name]


def from_matrix(
    objects: Sequence[str],
    matrix: Sequence[Sequence[float]],
    mode: Mode = "mixture",
    *,
    loss: nn.Module | None = None,
    detach: bool = True,
    labels: Mapping[str, float] | None = None,
) -> DistillGraph:
    """A graph from its matrix.

    Args:
        objects: the names of the rows and columns.
        matrix: A ("mixture": rows sum to 1, or to 0 for who does not learn) or W ("pairwise": any weights).
        mode: how a row teaches.
        loss: the distance; KL at temperature 3 by default.
        detach: whether sources are outside the graph.
        labels: the weight of the labels; 1 for every object by default.

    Raises:
        AttarError: the matrix is not square, or a row of A does not sum to 1.

    >>> graph = from_matrix(["student", "a", "b"], [[0, 0.5, 0.5], [0, 0, 1], [0, 0, 0]])
    >>> [(one.learner, one.source) for one in graph.imitations]
    [('student', 'target_of_student'), ('a', 'b')]
    """
    if mode not in ("mixture", "pairwise"):
        raise unknown("mode", mode, ("mixture", "pairwise"))
    if any(len(row) != len(objects) for row in (matrix, *matrix)):
        raise AttarError(f"{len(objects)} objects need a matrix of {len(objects)}x{len(objects)}")
    ensembles: dict[str, Row] = {}
    imitations: list[Imitation] = []
    for learner, row in zip(objects, matrix, strict=True):
        shares = {name: share for name, share in zip(objects, row, strict=True) if share}
        if mode == "pairwise" or len(shares) < 2:
            imitations += [Imitation(learner, name, share) for name, share in shares.items()]
        else:
            # Learners with the same row have the same teacher: it is made and drawn once.
            source = next((name for name, known in ensembles.items() if known == shares), f"target_of_{learner}")
            ensembles[source] = shares
            imitations.append(Imitation(learner, source))
        if mode == "mixture" and shares and abs(sum(shares.values()) - 1) > 1e-6:
            raise AttarError(f"the row of {learner!r} sums to {sum(shares.values()):g}; rows of a mixture sum to 1")
    labels = dict.fromkeys(objects, 1.0) if labels is None else labels
    loss = KLDivergence(3.0) if loss is None else loss
    return DistillGraph(tuple(objects), tuple(imitations), ensembles, labels, loss, detach)
