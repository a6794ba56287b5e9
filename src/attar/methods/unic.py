"""UNIC: the student predicts the features of several teachers, and easy teachers are dropped image by image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from attar.batch import Batch, upload
from attar.errors import PairError
from attar.knowledge import Knowledge, Transfer
from attar.losses.kept_teachers import KeptTeachers
from attar.methods.common.drawn_rows import check_probability
from attar.methods.common.feature_teachers import POOLED, FeatureTeachers
from attar.methods.common.standard_scores import StandardScores
from attar.methods.registry import register
from attar.models import Staged, tap_shapes
from attar.models.libraries.tokens import patch_channels
from attar.models.surgery.adapters import shrunk


@register(
    "unic",
    title="UNIC: Universal Classification Models via Multi-teacher Distillation",
    paper="arXiv:2408.05088",
    year=2024,
    family="offline",
    needs=("stages", "pooled"),
)
class UNIC(FeatureTeachers):
    """UNIC: Universal Classification Models via Multi-teacher Distillation (Sariyildiz et al., ECCV 2024).

    L = mean over images i and the teachers k kept for them of l_ik, l = cosine * (1 - cos) + smooth * smooth L1 between
    a prediction of the student and the teacher's feature, which has mean 0 and deviation 1 in every channel; plus
    ce * CE where the task has labels. For each image the teacher with the largest l is kept, every other one is dropped
    with probability `drop`. l is the mean over two kinds of features, pooled and patches (the teacher's last stage),
    each predicted by a ladder: the sum of heads at all stages of the student, two layers with a GELU, as wide inside as
    the stage, four times as wide at the last. Heads are not deployed. The formula is that of the authors' code.

    Deviates: statistics are those of training images before the first step, where the authors average them while they
    train; a ladder has a rung a stage where theirs has one a block; patches are those before a vision transformer's
    last norm. Maps of several sizes meet at the smallest. stages=false leaves patches and the lower rungs out; then any
    networks do whose pooled feature is one vector a sample, those of text and language too.

    Args:
        teacher: a trained network, or a list of them.
        student: the network to train.
        drop: probability that a teacher is dropped for an image (0.5).
        cosine: weight of the cosine (0.5).
        smooth: weight of the smooth L1 (0.5).
        ce: weight of the labels (1), where the task has some.
        stages: whether patches are predicted too, and all from every stage (true).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: `drop` is no probability, or with stages a network has none.
    """

    def __init__(
        self,
        teacher: nn.Module | Sequence[nn.Module],
        student: nn.Module,
        *,
        drop: float = 0.5,
        cosine: float = 0.5,
        smooth: float = 0.5,
        ce: float = 1.0,
        stages: bool = True,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        check_probability(self.name, "drop", drop)
        self.drop, self.cosine, self.smooth, self.ce = drop, cosine, smooth, ce
        nets = [getattr(self, name).module for name in self.names]
        self.levels = stage_taps(student) if stages else []
        self.last = [stage_taps(net)[-1] for net in nets] if stages else []
        own = tap_shapes(student, [*self.levels, POOLED], image_shape)
        for tap in self.levels:
            if len(own[tap]) != 3:
                raise refusal(f"{tap} of the student is {own[tap]}, not (C, H, W)")
        rungs = [own[tap][0] for tap in (*self.levels[:-1], POOLED)]
        widths = [tap_shapes(net, [POOLED], image_shape)[POOLED][0] for net in nets]
        self.scores = nn.ModuleList([StandardScores(width) for width in widths])
        self.ladders = nn.ModuleList([Ladder(rungs, width) for width in widths])
        for tap in self.levels:
            self.student.request(tap)
        for name, net, tap in zip(self.names, nets, self.last, strict=False):
            getattr(self, name).request(tap)
            width = patch_channels(net, tap_shapes(net, [tap], image_shape)[tap][0])
            self.scores.append(StandardScores(width))
            self.ladders.append(Ladder([own[level][0] for level in self.levels], width))

    @torch.no_grad()
    def prepare(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            for score, features in zip(self._scores(), self._features(self.of_teachers(batch)), strict=True):
                score.see(features)
        for score in self._scores():
            score.settle()

    def _scores(self) -> list[StandardScores]:
        return [score for score in self.scores if isinstance(score, StandardScores)]

    def _features(self, known: Knowledge) -> list[Tensor]:
        """The features (B, D) of every teacher, then the patches (B, D, H, W) of every teacher."""
        names = [f"{name}.{self.tap}" for name in self.names]
        names += [f"{name}.{tap}" for name, tap in zip(self.names, self.last, strict=False)]
        widths = [len(score.mean) for score in self._scores()]
        return [tensor_of(known, name)[:, :width] for name, width in zip(names, widths, strict=True)]

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        levels = [tensor_of(known, f"student.{tap}") for tap in self.levels]
        top = tensor_of(known, f"student.{self.tap}")
        if levels and (top.ndim != 2 or len(top) != len(levels[0])):
            raise refusal(f"{self.tap} of the student is {tuple(top.shape)}, not a vector an image")
        smallest = [min(one.shape[side] for one in levels) for side in (2, 3)] if levels else []
        predictions, targets = [], []
        for score, ladder, features in zip(self.scores, self.ladders, self._features(known), strict=True):
            target = score(features)
            if target.ndim == 2:
                predictions.append(ladder([*(one.mean((2, 3)) for one in levels[:-1]), top]))
            else:
                target = shrunk(target, smallest)
                predictions.append(ladder([shrunk(one, target.shape[-2:]) for one in levels]))
            targets.append(target)
        known.add("student.predictions", tuple(predictions)).add("teachers.targets", tuple(targets))
        return known.add("teachers.draws", self._draws(batch))

    def _draws(self, batch: Batch) -> Tensor:
        """(B, teachers) uniform in [0, 1)."""
        whole = torch.rand(batch.whole, len(self.names), generator=batch.address.generator("drop"))
        return upload([batch.own(whole)], batch.device)[0]

    def transfers(self) -> Iterable[Transfer]:
        yield from self.label_edges(self.ce)
        loss = KeptTeachers(self.drop, self.cosine, self.smooth, kinds=2 if self.levels else 1)
        yield Transfer("teachers.targets", "student.predictions", loss, given=("teachers.draws",))


class Ladder(nn.Module):
    """The sum of a head on each feature: (B, C, ...) of every stage to (B, D, ...).

    Args:
        inputs: C of each.
        outputs: D.
    """

    def __init__(self, inputs: Sequence[int], outputs: int) -> None:
        super().__init__()
        widths = [*inputs[:-1], 4 * inputs[-1]]
        self.heads = nn.ModuleList([head(*sizes, outputs) for sizes in zip(inputs, widths, strict=True)])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        rungs = [rung(one.movedim(1, -1)) for rung, one in zip(self.heads, features, strict=True)]
        return torch.stack(rungs).sum(0).movedim(-1, 1)


def head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two layers with a GELU between them, drawn as the authors draw them."""
    layers = nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs)
    for layer in (layers[0], layers[2]):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def tensor_of(known: Knowledge, name: str) -> Tensor:
    """One tensor of the knowledge."""
    value = known[name]
    assert isinstance(value, Tensor)
    return value


def stage_taps(net: nn.Module) -> list[str]:
    """The taps of a network's stages.

    Raises:
        PairError: it has none.
    """
    if not isinstance(net, Staged):
        raise refusal(f"{type(net).__name__} has no stages")
    return [f"stage{number}" for number in range(1, len(net.stages) + 1)]


def refusal(found: str) -> PairError:
    """The error of networks whose stages cannot be read."""
    return PairError(
        f"method 'unic' predicts from the stages of an image's network, but {found}; method.stages=false compares "
        "pooled features alone"
    )
