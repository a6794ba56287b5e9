"""ScaleKD: attention turns the student's maps into the teacher's tokens, with and without their mean."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses import SpatialTokens
from attar.losses.checks import check_positive
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import require_staged, stage_name
from attar.methods.registry import register
from attar.models import tap_shapes


@register(
    "scalekd",
    title="ScaleKD: Strong Vision Transformers Could Be Excellent Teachers",
    paper="NeurIPS 2024",
    year=2024,
    family="offline",
    needs=("stages",),
)
class ScaleKD(Offline):
    """ScaleKD: Strong Vision Transformers Could Be Excellent Teachers (Fan et al., NeurIPS 2024).

    L = (1 - kd) * CE + kd * KL(t || s) + for the last two stages spatial * D(g, t) + frequency * D(g', t'),
    D the squared distance of the channels at each position, scaled to length 1 and summed, over the batch size, and x'
    a map less its mean over space of each channel. g is what an attention projector makes of the student's map; of the
    last stage but one it passes through the teacher's frozen last stage first, and the outcome is the query of the
    last stage's projector. Two projectors a stage, one for each D.

    Deviates: KL in place of the cross-entropy with the teacher, which differs by the teacher's entropy, without a
    gradient. In the authors' code D sums over the map, so it grows with its size: weights are for 7x7 maps.

    Reconstructed: that the projectors of the last stage take the queries from the stage-3 outcome of the same D.

    Args:
        teacher: a trained staged network with two stages or more; the paper has Swin and BEiT.
        student: the staged network to train.
        spatial: weight of D (0.08).
        frequency: weight of D without the mean (0.06; 0 at the last stage in the authors' recipe for Swin-S).
        kd: share of the teacher's logits, at T 1 (0.5).
        heads: of the attention; must divide the teacher's channels (4, ours).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: a network has one stage only, or the heads do not divide the channels.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        spatial: float = 0.08,
        frequency: float = 0.06,
        kd: float = 0.5,
        heads: int = 4,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.spatial, self.frequency, self.kd = spatial, frequency, kd
        nets = {"teacher": teacher, "student": student}
        staged = {role: require_staged(self.name, role, net) for role, net in nets.items()}
        names = {role: [stage_name(self.name, role, net, back) for back in (-2, -1)] for role, net in staged.items()}
        self.theirs, self.own = names["teacher"], names["student"]
        their_shapes = tap_shapes(teacher, self.theirs, image_shape)
        own_shapes = tap_shapes(student, self.own, image_shape)
        self.projectors = nn.ModuleList(
            nn.ModuleList(
                Projector(own_shapes[own], their_shapes[theirs], heads, queries=own == self.own[0]) for _ in range(2)
            )
            for own, theirs in zip(self.own, self.theirs, strict=True)
        )

    def run(self, batch: Batch) -> Knowledge:
        teacher = self.teacher(batch.inputs, self.theirs)
        student = self.student(batch.inputs, self.own)
        net = require_staged(self.name, "teacher", self.teacher.module)
        known = Knowledge(batch, teacher=teacher, student=student)
        for kind, early, late in zip(("spatial", "frequency"), *self.projectors, strict=True):
            through = net.run_stage(len(net.stages) - 1, early(student.tap(self.own[0])))[0]
            direct = late(student.tap(self.own[1]), through)
            known.add(f"student.through.{kind}", through).add(f"student.direct.{kind}", direct)
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=1 - self.kd)
        yield self.output_edge("teacher", "student", 1.0, self.kd)
        for kind, weight in (("spatial", self.spatial), ("frequency", self.frequency)):
            loss = SpatialTokens(centred=kind == "frequency")
            for way in ("through", "direct"):
                yield Transfer(f"teacher.{self.theirs[-1]}", f"student.{way}.{kind}", loss, weight)


class Projector(nn.Module):
    """A student's map (B, C, H, W) as the teacher's (B, D, h, w): cross-attention, a norm and a feed-forward layer.

    Keys and values are the map after a 3x3 convolution, batch norm and ReLU, with learnt positions; queries a learnt
    table or a map that is given, through 1x1 and ReLU; the attention's logits are scaled by 5 / sqrt(D / heads).

    >>> Projector((8, 4, 4), (16, 2, 2), 4)(torch.zeros(3, 8, 4, 4)).shape
    torch.Size([3, 16, 2, 2])
    """

    def __init__(self, own: tuple[int, ...], theirs: tuple[int, ...], heads: int, queries: bool = True) -> None:
        super().__init__()
        (inputs, *old), (width, *self.size) = own, theirs
        check_positive("heads", heads)
        if width % heads:
            raise AttarError(
                f"method 'scalekd': {heads} heads do not divide the teacher's {width} channels; give method.heads="
            )
        self.heads = heads
        self.keys = nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.positions = nn.Parameter(0.02 * torch.randn(1, width, *old))
        self.table = nn.Parameter(0.02 * torch.randn(1, width, *self.size)) if queries else None
        self.query = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU())
        self.to_keys, self.to_values, self.out = (nn.Linear(width, width) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, queries: Tensor | None = None) -> Tensor:
        given = queries if self.table is None else self.table.expand(len(x), -1, -1, -1)
        assert given is not None
        tokens = (self.keys(x) + self.positions).flatten(2).mT
        asked = self.query(given).flatten(2).mT
        key, value = self.to_keys(tokens), self.to_values(tokens)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (asked, key, value))
        seen = F.scaled_dot_product_attention(q, k, v, scale=5 / q.shape[3] ** 0.5)
        asked = self.norms[0](asked + self.out(seen.transpose(1, 2).flatten(2)))
        return self.norms[1](asked + self.feed(asked)).mT.unflatten(2, self.size)
