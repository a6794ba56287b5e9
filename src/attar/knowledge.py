"""The framework: who teaches whom, written down.

Knowledge is what the networks produced for one batch, by name. A Transfer is one directed edge between two of
those names. Everything that all methods share follows from the edges: the total loss, its terms, the
gradient policy, the composition of methods, the graph and the matrix of who learns from whom.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attar.batch import Batch, on_device
from attar.errors import AttarError, unknown
from attar.schedules import WeightSchedule, value

Value = Tensor | tuple[Tensor, ...]
# Below every weight of a step in which something counts; the number of parts divided by it is a float32.
LEAST = 1e-30


@dataclass
class Output:
    """The output of one network for one batch: its logits (B, K) and the features that were tapped, by name."""

    logits: Tensor
    taps: dict[str, Tensor] = field(default_factory=dict)

    def tap(self, name: str) -> Tensor:
        """A tapped feature; asking for one that was not tapped is an error that names the ones that were."""
        if name not in self.taps:
            raise unknown("tap", name, self.taps)
        return self.taps[name]


def logits_of(returned: object) -> Tensor:
    """The logits in what a network returned: a tensor, something with "logits", or a sequence that starts with them.

    >>> logits_of({"logits": torch.zeros(2, 10)}).shape
    torch.Size([2, 10])
    """
    found: object = returned
    if isinstance(returned, Mapping):
        found = returned.get("logits")
    elif hasattr(returned, "logits"):
        found = returned.logits
    elif isinstance(returned, (tuple, list)) and returned:
        found = returned[0]
    if not isinstance(found, Tensor):
        raise AttarError(f"the network returned a {type(returned).__name__} without logits; return a tensor of them")
    return found


class Knowledge(Mapping[str, Value]):
    """The named tensors of one forward pass: "labels", "student.logits", "teacher.stage3", ...

    "epoch", the epoch as one number, is there for every batch and not among the names.

    Args:
        batch: the batch it is about; its labels become "labels".
        objects: each network's `Output` (or a tensor of logits) under the network's name.

    >>> batch = Batch(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]))
    >>> sorted(Knowledge(batch, student=torch.zeros(2, 10)))
    ['labels', 'student.logits']
    """

    def __init__(self, batch: Batch, **objects: Output | Tensor) -> None:
        self.batch = batch
        self._values: dict[str, Value] = {"labels": batch.labels}
        for name, output in objects.items():
            if isinstance(output, Tensor):
                output = Output(output)
            self.add(f"{name}.{batch.output}", output.logits)
            for tap, feature in output.taps.items():
                self.add(f"{name}.{tap}", feature)

    def add(self, name: str, tensor: Value) -> Knowledge:
        """Enter a further tensor, an ensemble's logits say, and return self."""
        if name in self._values:
            raise AttarError(f"the knowledge {name!r} was given twice; name each tensor once")
        self._values[name] = tensor
        return self

    def __getitem__(self, name: str) -> Value:
        if name not in self._values:
            if name == "epoch":
                return epoch_of(self.batch)
            raise unknown("knowledge", name, self._values)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def epoch_of(batch: Batch) -> Tensor:
    """The epoch as a tensor of one number, on the batch's device."""
    return torch.full((), float(batch.address.epoch), device=batch.device)


@dataclass(frozen=True, eq=False)
class Transfer:
    """One directed edge: `target` learns from `source`.

    An edge whose source is the labels compares only the rows that have one; every other edge compares all.

    Attributes:
        source: the name of the knowledge that teaches ("labels", "teacher.logits", ...).
        target: the name of the knowledge that learns.
        loss: called as loss(learner, source, *given) and returns a scalar.
        weight: a number, or a ramp over the epochs.
        learns: "target" detaches the source; "both" lets the gradient reach either end.
        given: further knowledge handed to the loss, detached (DKD needs the labels).
        via: a module the learner passes through first (a regressor); its owner is the method.
        name: what the edge is called in logs; "source->target" unless two edges join the same pair.
        phase: in which of the method's phases the edge teaches; methods that step once have only "".
        component: which part of the gradient it belongs to, for optimisers that keep a momentum for each part: by
            default "task" from the labels and "distillation" from everything else; "target" for what a teacher's
            logits of the true class teach alone.
    """

    source: str
    target: str
    loss: nn.Module
    weight: float | WeightSchedule = 1.0
    learns: Literal["target", "both"] = "target"
    given: tuple[str, ...] = ()
    via: nn.Module | None = None
    name: str = ""
    phase: str = ""
    component: str = ""

    def __post_init__(self) -> None:
        if not self.component:
            object.__setattr__(self, "component", "task" if owner(self.source) == "labels" else "distillation")

    @property
    def key(self) -> str:
        return self.name or f"{self.source}->{self.target}"

    def __call__(self, knowledge: Knowledge) -> Tensor:
        """The unweighted loss of this edge."""
        learner, source = knowledge[self.target], knowledge[self.source]
        if self.via is not None:
            learner = self.via(learner)
        if self.learns == "target":
            source = detached(source)
        batch = knowledge.batch
        compared = [learner, source, *(detached(knowledge[name]) for name in self.given)]
        if owner(self.source) == "labels":
            if batch.labelled == 0 and isinstance(learner, Tensor):
                return 0.0 * learner.sum()
            compared = [labelled(one, batch, self.key) for one in compared]
        if batch.weight is None or not self.weighs(batch):
            return self.loss(*compared)
        weight = batch.weight[: batch.labelled] if owner(self.source) == "labels" else batch.weight
        return self.loss(*compared, weight=weight)

    def weighs(self, batch: Batch) -> bool:
        """Whether the entries of the batch count as `batch.weight` says in this edge: where it compares outputs.

        A loss with `everywhere` compares all entries: a teacher has an output for nodes without a label, too.

        Raises:
            AttarError: it compares outputs by a loss that takes no weight.
        """
        if batch.weight is None or self.target.partition(".")[2] != batch.output:
            return False
        if getattr(self.loss, "everywhere", False):
            return False
        if not getattr(self.loss, "counts", False):
            raise AttarError(
                f"edge {self.key!r}: {type(self.loss).__name__} takes no weight, but the batch has one; choose a loss "
                "whose forward has weight= (cross-entropy, the divergences), or leave Batch.weight out"
            )
        return True

    def share(self, batch: Batch) -> float | Tensor:
        """What this batch's mean counts for in the step's, times the number of parts: 1 where all parts are alike."""
        step = batch.counts
        if step is None:
            return 1.0
        if batch.weight is not None and step.weight is not None and self.weighs(batch):
            # A step in which nothing counts moves nothing.
            whole = step.weight.clamp_min(LEAST) if isinstance(step.weight, Tensor) else max(step.weight, LEAST)
            return batch.weight.sum() * (step.parts / whole)
        if owner(self.source) == "labels":
            classes = getattr(self.loss, "class_weights", None)
            if classes is not None and step.class_weight is not None:
                labels = batch.labels[: batch.labelled]
                return on_device(labels.device, classes)[labels].sum() * (step.parts / step.class_weight)
            if batch.labelled is not None:
                return batch.labelled * step.parts / step.labelled
        return len(batch) * step.parts / step.rows


def detached(tensor: Value) -> Value:
    """The same values outside the graph."""
    return tuple(part.detach() for part in tensor) if isinstance(tensor, tuple) else tensor.detach()


def labelled(tensor: Value, batch: Batch, key: str) -> Value:
    """The rows whose images have a label.

    Raises:
        AttarError: it has other rows than the batch.
    """
    if batch.labelled is None:
        return tensor
    parts = tensor if isinstance(tensor, tuple) else (tensor,)
    for part in parts:
        if part.shape[:1] != batch.labels.shape[:1]:
            raise AttarError(
                f"edge {key!r} compares {tuple(part.shape)} with the labels of {len(batch)} images, some without one: "
                "which rows have a label is not known; leave the unlabelled images out"
            )
    cut = tuple(part[: batch.labelled] for part in parts)
    return cut if isinstance(tensor, tuple) else cut[0]


@dataclass
class Losses(Mapping[str, Tensor]):
    """The total loss and its terms: `losses.total`, `losses["teacher.logits->student.logits"]`.

    Attributes:
        total: the weighted sum, a scalar to call backward() on.
        terms: each edge's loss before its weight, by the edge's key.
        weights: each edge's weight at this batch's epoch.
        knowledge: what the networks produced.
        components: what adds up to the total, by the component of the edges.
    """

    total: Tensor
    terms: dict[str, Tensor]
    weights: dict[str, float]
    knowledge: Knowledge
    components: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.terms:
            raise unknown("edge", key, self.terms)
        return self.terms[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.terms)

    def __len__(self) -> int:
        return len(self.terms)


def total_loss(knowledge: Knowledge, transfers: Iterable[Transfer]) -> Losses:
    """The loss of every edge of the batch's phase, and their weighted sum.

    An edge whose weight is 0 is still evaluated, so that its curve stays visible, but adds no gradient.

    Raises:
        AttarError: two edges have the same key, or an edge names knowledge that is not there.
    """
    edges = [edge for edge in transfers if edge.phase == knowledge.batch.phase]
    weights = weights_of(edges, knowledge.batch)
    return weighted(edges, terms_of(edges, knowledge, learning(weights)), weights, knowledge)


def weights_of(edges: Iterable[Transfer], batch: Batch) -> dict[str, float]:
    """Each edge's weight at a batch's epoch, by the edge's key."""
    weights: dict[str, float] = {}
    for edge in edges:
        if edge.key in weights:
            raise AttarError(f"two edges are called {edge.key!r}; give one of them a name=")
        weights[edge.key] = value(edge.weight, batch.address.epoch, batch.epochs)
    return weights


def learning(weights: Mapping[str, float]) -> tuple[str, ...]:
    """The keys of the edges that add a gradient."""
    return tuple(key for key, weight in weights.items() if weight != 0.0)


def terms_of(edges: Iterable[Transfer], knowledge: Knowledge, learn: Collection[str]) -> dict[str, Tensor]:
    """The loss of every edge before its weight; only those in `learn` have a graph."""
    terms: dict[str, Tensor] = {}
    for edge in edges:
        with torch.set_grad_enabled(torch.is_grad_enabled() and edge.key in learn):
            terms[edge.key] = edge(knowledge)
    return terms


def weighted(
    edges: Iterable[Transfer], terms: dict[str, Tensor], weights: dict[str, float], knowledge: Knowledge
) -> Losses:
    """The terms and their weighted sum.

    Of a batch that is a part of an optimiser step (`Batch.counts`) the value is the part's own mean, and the gradient
    is what the part adds to the whole step's mean, times the number of parts.
    """
    batch = knowledge.batch
    total = torch.zeros((), device=batch.device)
    learn, components = learning(weights), dict[str, Tensor]()
    for edge in edges:
        if edge.key in learn:
            share = edge.share(batch)
            term = terms[edge.key]
            if isinstance(share, Tensor) or share != 1.0:
                term = ScaledGradient.apply(term, share)
            term = weights[edge.key] * term
            total = total + term
            part = components.get(edge.component)
            components[edge.component] = term if part is None else part + term
    return Losses(total, terms, weights, knowledge, components)


class ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, by: float | Tensor) -> Tensor:
        ctx.by = by
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.by, None


def union(*edges: Iterable[Transfer]) -> list[Transfer]:
    """The edges of several methods as one list; where two share a key, the first method's stays.

    This is what `kd + at` learns: AT's edges beside KD's, and KD's weight on the labels.
    """
    chosen: dict[str, Transfer] = {}
    for edge in (edge for group in edges for edge in group):
        chosen.setdefault(edge.key, edge)
    return list(chosen.values())


def owner(name: str) -> str:
    """The object a piece of knowledge belongs to: "teacher" for "teacher.stage3"."""
    return name.split(".", 1)[0]


@dataclass(frozen=True)
class Graph:
    """Who teaches whom, as data: nodes are objects (networks, the labels), edges are transfers."""

    edges: tuple[Transfer, ...]

    @property
    def nodes(self) -> list[str]:
        """The objects, teachers before learners, in the order of the edges."""
        names = [owner(end) for edge in self.edges for end in (edge.source, edge.target)]
        return list(dict.fromkeys(names))

    def label(self, edge: Transfer) -> str:
        """What is written on an edge: the loss, what passes, and the weight."""
        weight = value(edge.weight, 0, 1) if not callable(edge.weight) else None
        factor = "ramp" if weight is None else f"{weight:g}"
        passes = edge.source.partition(".")[2]
        through = f" via {type(edge.via).__name__}" if edge.via is not None else ""
        return " ".join(filter(None, [f"{factor} x {type(edge.loss).__name__}", passes])) + through

    def mermaid(self) -> str:
        """The graph in Mermaid's notation, which GitHub and most editors draw."""
        lines = ["graph LR"]
        for edge in self.edges:
            arrow = "<-->" if edge.learns == "both" else "-->"
            lines.append(f'    {owner(edge.source)} {arrow}|"{self.label(edge)}"| {owner(edge.target)}')
        return "\n".join(lines)

    def matrix(self, epoch: int = 0, epochs: int = 1) -> tuple[list[str], list[list[float]]]:
        """Names and the matrix W: row i is the weight with which object i learns from each object.

        Several edges between one pair add up; an edge that teaches both ways counts in both rows.
        """
        names = self.nodes
        weights = [[0.0] * len(names) for _ in names]
        for edge in self.edges:
            source, target = names.index(owner(edge.source)), names.index(owner(edge.target))
            amount = value(edge.weight, epoch, epochs)
            weights[target][source] += amount
            if edge.learns == "both" and source != target:
                weights[source][target] += amount
        return names, weights
