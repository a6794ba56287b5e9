"""STRIDE: every layer of the student attends to all of the teacher's, and learns from those it goes with."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses.loss import Loss
from attar.losses.numerics import product, widen
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import tap_shapes

Shape = tuple[int, ...]


@register(
    "stride",
    title="Structure and Embedding Distillation with Attention for Graph Neural Networks",
    paper="arXiv:2310.15938",
    year=2023,
    family="offline",
    needs=("stages",),
)
class Stride(Offline):
    """STRIDE (Ahluwalia et al., 2023), whose first version is called ABKD; here that names alpha-beta divergences.

        L = ce * CE + weight * mean over student's layers i of sum over teacher's layers j of a_ij D_ij
        a_ij = softmax over j of <s_i, t_j> / sqrt(width), s_i and t_j the projected means of a layer's nodes
        D_ij = mean over nodes of |P(t_j) - P(s_i)|^2, with projections of their own for each layer before P

    Of maps, the positions are the nodes where all layers of both networks have equally many (graphs, transformers);
    else D compares the means, as the paper's first version does. The teacher is frozen; the projections learn and are
    dropped afterwards.

    Reconstructed from reviews of the paper: its code, weights and widths were not found, so these defaults are ours:
    `weight`, `width`, `subspace`. Not built: the structural term of the second version, and starting a student of one
    layer by the attention. Deviates: vectors are scaled to length 1 before D (the first version normalises, too);
    without that, projections that shrink to 0 bring the loss to 0.

    Args:
        teacher: a trained staged network.
        student: the staged network to train; depths and widths may differ.
        weight: of the layer pairs (1).
        ce: weight of the labels (1).
        width: of the projections (64).
        subspace: width of P's output (32).
        normalise: whether vectors are scaled to length 1 before D (true).
        image_shape: (C, H, W) of one image; by default the networks' own.

    >>> import attar
    >>> nets = dict(teacher=attar.create_model("resnet14"), student=attar.create_model("resnet8"))
    >>> [edge.key for edge in attar.create_method("stride", **nets).edges]
    ['labels->student.logits', 'teacher.layers->student.layers']
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 1.0,
        ce: float = 1.0,
        width: int = 64,
        subspace: int = 32,
        normalise: bool = True,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        if min(width, subspace) < 1:
            raise AttarError(f"stride: width is {width}, subspace {subspace}; give 1 or more")
        first = require_staged(self.name, "teacher", teacher)
        second = require_staged(self.name, "student", student)
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        self.theirs = [f"stage{number}" for number in range(1, len(first.stages) + 1)]
        self.own = [f"stage{number}" for number in range(1, len(second.stages) + 1)]
        for network, taps in ((self.teacher, self.theirs), (self.student, self.own)):
            for tap in taps:
                network.request(tap)
        shapes = [
            [*tap_shapes(net, taps, image_shape).values()]
            for net, taps in ((student, self.own), (teacher, self.theirs))
        ]
        each = len({positions(shape) for shape in (*shapes[0], *shapes[1])}) == 1
        own, theirs = ([channels(shape) for shape in group] for group in shapes)
        self.loss = LayerPairs(own, theirs, width, subspace, each, normalise)

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        for name, taps in (("teacher", self.theirs), ("student", self.own)):
            maps = [known[f"{name}.{tap}"] for tap in taps]
            known.add(f"{name}.layers", tuple(one for one in maps if isinstance(one, Tensor)))
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield Transfer("teacher.layers", "student.layers", self.loss, weight=self.weight)


class LayerPairs(Loss):
    """Distances between all pairs of layers, weighted by attention: loss(student's features, teacher's features).

    Args:
        own: channels of the student's layers.
        theirs: channels of the teacher's layers.
        width: of the projections.
        subspace: width of P's output.
        each: whether D compares node with node; else the means over the nodes.
        normalise: whether vectors are scaled to length 1 before D.
    """

    def __init__(
        self, own: list[int], theirs: list[int], width: int, subspace: int, each: bool, normalise: bool
    ) -> None:
        super().__init__()
        self.each, self.normalise = each, normalise
        self.queries, self.keys = projections(own, width), projections(theirs, width)
        self.own, self.theirs = projections(own, width), projections(theirs, width)
        self.subspace = nn.Linear(width, subspace)

    def forward(self, learner: tuple[Tensor, ...], source: tuple[Tensor, ...]) -> Tensor:
        return layer_pairs(self.attention(learner, source), *self.vectors(learner, source))

    def attention(self, learner: tuple[Tensor, ...], source: tuple[Tensor, ...]) -> Tensor:
        """(B, student's layers, teacher's layers), each row a distribution over the teacher's."""
        pooled = [[as_nodes(one).mean(1) for one in group] for group in (learner, source)]
        return layer_attention(through(self.queries, pooled[0]), through(self.keys, pooled[1]))

    def vectors(self, learner: tuple[Tensor, ...], source: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """(B, layers, nodes, subspace) of the student and of the teacher."""
        found = []
        for group, layers in ((learner, self.own), (source, self.theirs)):
            nodes = [as_nodes(one) if self.each else as_nodes(one).mean(1, keepdim=True) for one in group]
            projected = widen(self.subspace(through(layers, nodes)))
            found.append(F.normalize(projected, dim=-1) if self.normalise else projected)
        return found[0], found[1]


def layer_attention(queries: Tensor, keys: Tensor) -> Tensor:
    """softmax over the teacher's layers of <s_i, t_j> / sqrt(width).

    Args:
        queries: (B, S, width) a vector for each of the student's layers.
        keys: (B, T, width) for each of the teacher's.

    >>> t, s = torch.tensor([[[1.0, 0], [0, 1], [1, 1]]]), torch.tensor([[[1.0, 1], [0, 2]]])
    >>> layer_attention(s, t)
    tensor([[[0.2483, 0.2483, 0.5035],
             [0.1084, 0.4458, 0.4458]]])
    """
    queries, keys = widen(queries), widen(keys)
    return (product(queries, keys.mT) / queries.shape[-1] ** 0.5).softmax(-1)


def layer_pairs(attention: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over the student's layers i (and the batch) of the sum over the teacher's j of a_ij D_ij.

    Args:
        attention: (B, S, T).
        student: (B, S, N, P) vectors of N nodes.
        teacher: (B, T, N, P).

    >>> t, s = torch.tensor([[[1.0, 0], [0, 1], [1, 1]]]), torch.tensor([[[1.0, 1], [0, 2]]])
    >>> round(layer_pairs(layer_attention(s, t), s[:, :, None], t[:, :, None]).item(), 5)
    1.18793
    """
    rows = [(teacher - own[:, None]).square().sum(-1).mean(-1) for own in student.unbind(1)]
    return (attention * torch.stack(rows, 1)).sum(-1).mean()


def projections(widths: list[int], width: int) -> nn.ModuleList:
    """A linear layer for each layer of a network."""
    return nn.ModuleList(nn.Linear(one, width) for one in widths)


def through(layers: nn.ModuleList, features: list[Tensor]) -> Tensor:
    """(B, layers, ..., width): each feature through its layer."""
    return torch.stack([layer(one) for layer, one in zip(layers, features, strict=True)], 1)


def as_nodes(x: Tensor) -> Tensor:
    """A map (B, C, H, W), tokens (B, N, C) or a vector (B, C) as nodes (B, N, C)."""
    if x.ndim == 2:
        return x[:, None]
    return x.flatten(2).mT if x.ndim == 4 else x


def positions(shape: Shape) -> Shape:
    """How many nodes a feature without its batch has, by dimension."""
    return shape[1:] if len(shape) == 3 else shape[:-1]


def channels(shape: Shape) -> int:
    """How wide the nodes of a feature without its batch are."""
    return shape[0] if len(shape) == 3 else shape[-1]
