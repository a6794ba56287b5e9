"""Angular-KD: light heads make several views of one teacher, and the student learns from their ensemble."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses import AngularInter, AngularIntra
from attar.losses.numerics import widen
from attar.methods.crd import CRD
from attar.methods.registry import register
from attar.models import class_count, tap_shapes
from attar.schedules import From, WeightSchedule

# How much a view counts in the ensemble, where the teacher counts 1.
SHARE = 0.8


@register(
    "angularkd",
    title="View augmentation of one teacher by angular diversity",
    paper="NeurIPS 2025",
    year=2025,
    family="offline",
    needs=("pooled",),
)
class AngularKD(CRD):
    """Angular-KD (NeurIPS 2025), after the authors' public code.

    Heads on the frozen teacher's pooled features are its views: dropout, a linear layer, batch norm give a feature, one
    more linear layer logits. The ensemble is the weighted mean of the teacher (1) and its views (0.8 each), of pooled
    features, and of probabilities at T. L = ce * CE + weight * CRD(student, ensemble feature) + kd * T^2 KL(ensemble ||
    student) + inter and intra losses of the views' features and logits (`attar.losses.angular_inter`,
    `angular_intra`) + labels * sum over views of CE. The views learn with the student, from CRD and KL too, and are not
    deployed.

    Deviates: the released weights have length 1 in place of sum 1, so the ensemble's mass is 2.44 with five views:
    kd=2.44 has that gradient. The forms with DKD and with MLKD are not here. See `angular_inter` and `crd` for theirs.

    Args:
        teacher: a trained network.
        student: the network to train.
        views: how many, from 2 up to the width of the teacher's pooled features (5).
        ce: weight of the student's labels (1).
        weight: of each direction of CRD (0.8).
        kd: weight of the ensemble's probabilities (1).
        temperature: T (4).
        feature_inter: weight between images, of features (0.1).
        feature_intra: weight within an image, of features (1).
        logit_inter: weight between images, of probabilities (1).
        logit_intra: weight within an image, of probabilities (1).
        labels: weight of the views' labels (0.8).
        init: epochs in which only the views learn (0, none; published 30, with a rate of their own).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: more views than the teacher's pooled features are wide, or fewer than 2.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        views: int = 5,
        ce: float = 1.0,
        weight: float = 0.8,
        kd: float = 1.0,
        temperature: float = 4.0,
        feature_inter: float = 0.1,
        feature_intra: float = 1.0,
        logit_inter: float = 1.0,
        logit_intra: float = 1.0,
        labels: float = 0.8,
        init: int = 0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student, weight=weight, ce=ce, image_shape=image_shape)
        self.kd, self.temperature, self.labels, self.init = kd, temperature, labels, init
        self.feature_inter, self.feature_intra = feature_inter, feature_intra
        self.logit_inter, self.logit_intra = logit_inter, logit_intra
        width = tap_shapes(teacher, ["pooled"], image_shape)["pooled"][0]
        self.heads = heads(views, width, class_count(teacher, image_shape))

    def contrasted(self, known: Knowledge) -> Tensor:
        """The ensemble's feature; the views and the ensemble's logits enter the knowledge."""
        pooled, logits = known["teacher.pooled"], known["teacher.logits"]
        assert isinstance(pooled, Tensor)
        assert isinstance(logits, Tensor)
        made = [head(pooled, known.batch, number) for number, head in enumerate(self.heads)]
        features = torch.stack([feature for feature, _ in made], 1)
        each = torch.stack([scores for _, scores in made], 1)
        for number, (_, scores) in enumerate(made, 1):
            known.add(f"view{number}.logits", scores)
        known.add("views.features", features).add("views.scores", each)
        target = ensemble((widen(logits) / self.temperature).softmax(1), (widen(each) / self.temperature).softmax(2))
        known.add("ensemble.logits", self.temperature * target.log())
        return ensemble(pooled, features)

    def transfers(self) -> Iterable[Transfer]:
        for edge in (*super().transfers(), self.output_edge("ensemble", "student", self.temperature, self.kd)):
            # The ensemble is not detached, as released.
            learns = "both" if edge.source == "ensemble.logits" else edge.learns
            yield replace(edge, weight=self.later(edge.weight), learns=learns)
        for number in range(1, len(self.heads) + 1):
            yield self.label_edge(f"view{number}", self.labels)
        for tap, ends, inter, intra, softened in (
            ("pooled", "features", self.feature_inter, self.feature_intra, None),
            ("logits", "scores", self.logit_inter, self.logit_intra, self.temperature),
        ):
            keys = (f"teacher.{tap}", f"views.{ends}")
            yield Transfer(*keys, AngularInter(softened), inter, name=f"inter.{ends}")
            yield Transfer(*keys, AngularIntra(softened), intra, name=f"intra.{ends}")

    def later(self, weight: float | WeightSchedule) -> float | WeightSchedule:
        """A weight of what the student learns: 0 while only the views learn."""
        return From(self.init, weight) if self.init and not callable(weight) else weight


class ViewHead(nn.Module):
    """One view of a teacher: its pooled features (B, D) to features (B, D) and logits (B, K).

    Args:
        weight: (D, D) of the first linear layer.
        classes: K.
        number: which view, from 0: later ones drop more and begin further from the identity.
    """

    def __init__(self, weight: Tensor, classes: int, number: int) -> None:
        super().__init__()
        self.drop, width = min(0.15 + 0.05 * number, 0.9), len(weight)
        self.linear, self.norm = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.classifier = nn.Linear(width, classes)
        with torch.no_grad():
            self.linear.weight.copy_(weight)
        for parameter in (self.norm.weight, self.norm.bias):
            drawn = torch.randn(()).item()
            nn.init.constant_(parameter, 1 - 0.1 * number + (0.1 + 0.1 * number) * drawn)
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, pooled: Tensor, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        if self.training:
            draws = torch.rand(
                batch.whole, pooled.shape[1], generator=batch.rng(f"view {number}"), device=pooled.device
            )
            pooled = pooled * (batch.own(draws) >= self.drop) / (1 - self.drop)
        feature = self.norm(self.linear(pooled))
        return feature, self.classifier(feature)


def heads(views: int, width: int, classes: int) -> nn.ModuleList:
    """Heads whose first layers begin unlike each other: the same row of any two is orthogonal and has length 1.

    >>> torch.manual_seed(0)
    <torch._C.Generator object at ...>
    >>> one, other = heads(2, 4, 3)
    >>> bool((one.linear.weight * other.linear.weight).sum(1).abs().max() < 1e-6)
    True
    """
    if not 2 <= views <= width:
        raise AttarError(f"angularkd: views={views}; give 2 to {width}, the width of the teacher's pooled features")
    rows = torch.linalg.qr(torch.randn(width, width, views)).Q
    return nn.ModuleList(ViewHead(rows[:, :, number], classes, number) for number in range(views))


def ensemble(teacher: Tensor, views: Tensor) -> Tensor:
    """(B, D): the weighted mean of a teacher's rows (B, D), which count 1, and its views' (B, N, D), 0.8 each.

    >>> ensemble(torch.tensor([[1.0]]), torch.tensor([[[0.0], [0.0]]])).item()
    0.3846153...
    """
    return (teacher + SHARE * views.sum(1)) / (1 + SHARE * views.shape[1])
