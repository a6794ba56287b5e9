"""SemCKD: each level of the student attends to the teacher's levels, and learns from those it goes with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses.checks import check_positive
from attar.losses.loss import Loss
from attar.losses.numerics import gram, product, widen
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import match_size, tap_shapes


@register(
    "semckd",
    title="Cross-Layer Distillation with Semantic Calibration",
    paper="arXiv:2012.03236",
    year=2021,
    family="offline",
    needs=("stages",),
)
class SemCKD(Offline):
    """Cross-Layer Distillation with Semantic Calibration (Chen et al., AAAI 2021).

    L = ce * CE + kd * KL + weight * sum over stages i, j of a_ij MSE(P_ij(S_i), T_j) / (stages of the student), for
    each image. a is softmax over j of q_i . k_j, queries and keys two-layer embeddings, of a quarter of the batch's
    width and length 1, of the image's row in the B x B matrix of inner products of the stage's features; P_ij three
    convolutions (1x1, 3x3, 1x1). Of two sizes the larger map is averaged to the smaller first.

    Deviates: the embeddings are as wide as a batch, so the authors drop the last, incomplete one; here its rows are
    filled up with zeros, as if the missing images had nothing in common with it.

    Args:
        teacher: a trained staged network.
        student: the staged network to train.
        weight: of the maps (400; 50 on ImageNet).
        kd: weight of the KL divergence (1).
        temperature: of the KL divergence (4).
        ce: weight of the labels (1).
        batch_size: the largest batch (64).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: in a pass: a batch larger than `batch_size`.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 400.0,
        kd: float = 1.0,
        temperature: float = 4.0,
        ce: float = 1.0,
        batch_size: int = 64,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        first = require_staged(self.name, "teacher", teacher)
        second = require_staged(self.name, "student", student)
        check_positive("batch_size", batch_size)
        super().__init__(teacher, student)
        self.weight, self.kd, self.temperature, self.ce = weight, kd, temperature, ce
        self.theirs = [f"stage{number}" for number in range(1, len(first.stages) + 1)]
        self.own = [f"stage{number}" for number in range(1, len(second.stages) + 1)]
        for network, taps in ((self.teacher, self.theirs), (self.student, self.own)):
            for tap in taps:
                network.request(tap)
        targets = tap_shapes(teacher, self.theirs, image_shape)
        levels = tap_shapes(student, self.own, image_shape)
        self.loss = CrossLayer(
            [levels[tap][0] for tap in self.own], [targets[tap][0] for tap in self.theirs], batch_size
        )

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        for name, taps in (("teacher", self.theirs), ("student", self.own)):
            maps = [known[f"{name}.{tap}"] for tap in taps]
            known.add(f"{name}.stages", tuple(one for one in maps if isinstance(one, Tensor)))
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield self.output_edge("teacher", "student", self.temperature, weight=self.kd)
        yield Transfer("teacher.stages", "student.stages", self.loss, weight=self.weight)


class CrossLayer(Loss):
    """The squared errors between all pairs of stages, weighted by attention: loss(student's maps, teacher's maps).

    Args:
        own: channels of the student's stages.
        theirs: channels of the teacher's stages.
        batch_size: the largest batch.
    """

    whole_batch: ClassVar[bool] = True  # similarities between images

    def __init__(self, own: list[int], theirs: list[int], batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.queries = nn.ModuleList(embedding(batch_size) for _ in own)
        self.keys = nn.ModuleList(embedding(batch_size) for _ in theirs)
        self.projectors = nn.ModuleList(
            nn.ModuleList(projector(inputs, outputs) for outputs in theirs) for inputs in own
        )

    def forward(self, learner: tuple[Tensor, ...], source: tuple[Tensor, ...]) -> Tensor:
        attention = self.attention(learner, source)
        errors = []
        for projectors, own in zip(self.projectors, learner, strict=True):
            assert isinstance(projectors, nn.ModuleList)
            row = [squared_error(to, own, theirs) for to, theirs in zip(projectors, source, strict=True)]
            errors.append(torch.stack(row, 1))
        return (attention * torch.stack(errors, 1)).sum() / attention.shape[:2].numel()

    def attention(self, learner: tuple[Tensor, ...], source: tuple[Tensor, ...]) -> Tensor:
        """(B, student's stages, teacher's stages), each row a distribution over the teacher's."""
        queries, keys = self.embedded(self.queries, learner), self.embedded(self.keys, source)
        return product(queries, keys.mT).softmax(2)

    def embedded(self, embeddings: nn.ModuleList, maps: tuple[Tensor, ...]) -> Tensor:
        """(B, stages, width) of length 1."""
        rows = [embed(self.similar(one)) for embed, one in zip(embeddings, maps, strict=True)]
        return F.normalize(widen(torch.stack(rows, 1)), dim=2)

    def similar(self, feature: Tensor) -> Tensor:
        """(B, batch_size) the inner products of each image's features with those of the batch, then zeros."""
        missing = self.batch_size - len(feature)
        if missing < 0:
            raise AttarError(
                f"semckd was made for batches of {self.batch_size}, this one has {len(feature)} images; "
                f"give method.batch_size={len(feature)}"
            )
        return F.pad(gram(widen(feature).flatten(1)), (0, missing))


def squared_error(project: nn.Module, own: Tensor, theirs: Tensor) -> Tensor:
    """(B,) the mean squared error of each image, at the smaller of the two sizes."""
    own, theirs = match_size(own, theirs)
    return (widen(project(own)) - widen(theirs)).square().flatten(1).mean(1)


def embedding(inputs: int) -> nn.Sequential:
    """Two layers with a ReLU between them."""
    width = max(inputs // 4, 1)
    return nn.Sequential(nn.Linear(inputs, 2 * width), nn.ReLU(inplace=True), nn.Linear(2 * width, width))


def projector(inputs: int, outputs: int) -> nn.Sequential:
    """1x1 to twice the teacher's channels, 3x3 there, 1x1 to the teacher's, with batch norms and ReLUs between."""
    middle = 2 * outputs
    return nn.Sequential(
        nn.Conv2d(inputs, middle, 1, bias=False),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, middle, 3, padding=1, bias=False),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, outputs, 1, bias=False),
    )
