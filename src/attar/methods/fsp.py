"""FSP: how one stage's channels go with the next one's, the flow of the solution procedure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import PairError
from attar.knowledge import Knowledge, Transfer
from attar.losses import MSE, flow
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import common_stages
from attar.methods.registry import register
from attar.models import tap_shapes
from attar.schedules import From


@register(
    "fsp",
    title="A Gift from Knowledge Distillation",
    paper="CVPR 2017",
    year=2017,
    family="offline",
    needs=("stages", "family"),
)
class FSP(Offline):
    """A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning (Yim et al.).

    L = ce * CE + weight * sum over neighbouring levels (stem, stage 1, ...) of mean (G_s - G_t)^2, G the flow from one
    level to the next: the inner products of their channels over positions (`attar.losses.flow`).

    Deviates: by default both terms are learnt together. The published protocol trains the flow alone for 30 of 240
    epochs before the labels join it: `init=30`.

    Args:
        teacher: a trained staged network.
        student: the staged network to train, with as many channels in every level as the teacher.
        weight: of the flow (50).
        ce: weight of the labels (1).
        init: epochs of the initialisation phase, without the labels (0, none; published 30).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: a level has other channels in the teacher than in the student.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 50.0,
        ce: float = 1.0,
        init: int = 0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce, self.init = weight, ce, init
        self.levels = [("stem", "stem"), *common_stages(self.name, teacher, student)]
        theirs = tap_shapes(teacher, [level[0] for level in self.levels], image_shape)
        own = tap_shapes(student, [level[1] for level in self.levels], image_shape)
        for taught, mine in self.levels:
            if theirs[taught][0] != own[mine][0]:
                raise PairError(
                    f"method 'fsp' compares channels: {taught} of the teacher has {theirs[taught][0]}, {mine} of the "
                    f"student {own[mine][0]}"
                )
            self.teacher.request(taught)
            self.student.request(mine)

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        for role, side in (("teacher", 0), ("student", 1)):
            maps = [known[f"{role}.{level[side]}"] for level in self.levels]
            for number, (first, second) in enumerate(pairwise(maps), 1):
                assert isinstance(first, Tensor)
                assert isinstance(second, Tensor)
                known.add(f"{role}.flow{number}", flow(first, second))
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=From(self.init, self.ce) if self.init else self.ce)
        for number in range(1, len(self.levels)):
            yield Transfer(f"teacher.flow{number}", f"student.flow{number}", MSE(), weight=self.weight)
