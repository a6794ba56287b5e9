"""Embed: the student's features predict those of one or several teachers, on one scale; labels are not needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.losses import MSE
from attar.methods.common.equal_variances import EqualVariances
from attar.methods.common.feature_teachers import POOLED, FeatureTeachers
from attar.methods.registry import register
from attar.models import tap_shapes


@register(
    "embed",
    title="Feature matching of foundation models",
    paper="arXiv:2410.01680",
    year=2024,
    family="offline",
    needs=("pooled",),
)
class Embed(FeatureTeachers):
    """PHI-S: Distribution Balancing for Label-Free Multi-Teacher Distillation (Ranzinger et al., 2024), its loss.

    L = mean over the teachers of MSE(P f_s, Q (f_t - mean) / s), P a linear layer a teacher, trained and not deployed;
    plus ce * CE where the task has labels. mean, s and Q follow from the teacher's features of training images before
    the first step: every dimension of the target has variance 1, so that no teacher weighs more, and a term is the
    share of the variance that is not explained (1: P predicts the mean).

    The paper turns by Hadamard matrices; plane rotations, which every width has, stand for them here. It also matches
    features of patches, and has heads of two layers; both are left out.

    Args:
        teacher: a trained network, or a list of them.
        student: the network to train.
        ce: weight of the labels (1), where the task has some.
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module | Sequence[nn.Module],
        student: nn.Module,
        *,
        ce: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.ce = ce
        own = tap_shapes(student, [POOLED], image_shape)[POOLED][0]
        widths = [tap_shapes(getattr(self, name).module, [POOLED], image_shape)[POOLED][0] for name in self.names]
        self.scales = nn.ModuleList([EqualVariances(width) for width in widths])
        self.heads = nn.ModuleList([nn.Linear(own, width) for width in widths])

    @torch.no_grad()
    def prepare(self, batches: Iterable[Batch]) -> None:
        seen: list[list[Tensor]] = [[] for _ in self.names]
        for batch in batches:
            known = self.of_teachers(batch)
            for place, name in enumerate(self.names):
                features = known[f"{name}.{self.tap}"]
                assert isinstance(features, Tensor)
                seen[place].append(features.float().cpu())
        for scale, parts in zip(self.scales, seen, strict=True):
            assert isinstance(scale, EqualVariances)
            scale.fit(torch.cat(parts))

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        for name, scale in zip(self.names, self.scales, strict=True):
            features = known[f"{name}.{self.tap}"]
            known.add(f"{name}.scaled", scale(features))
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield from self.label_edges(self.ce)
        for name, head in zip(self.names, self.heads, strict=True):
            yield Transfer(f"{name}.scaled", f"student.{self.tap}", MSE(), 1 / len(self.names), via=head)
