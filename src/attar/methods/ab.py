"""AB: the student's neurons switch on and off where the teacher's do."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.knowledge import Transfer
from attar.losses import ActivationBoundary
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import common_stages, connector
from attar.methods.registry import register
from attar.models import tap_shapes
from attar.schedules import From, Until


@register(
    "ab",
    title="Knowledge Transfer via Distillation of Activation Boundaries",
    paper="arXiv:1811.03233",
    year=2019,
    family="offline",
    needs=("stages",),
)
class AB(Offline):
    """Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons (Heo et al., AAAI 2019).

    L = ce * CE + weight * sum over stages i of 2^(i - n) * boundary(connector(S_i), T_i), summed over channels and
    positions, divided by the batch; the maps are those before a stage's last ReLU, connectors a 1x1 convolution with
    batch norm.

    Deviates: by default both terms are learnt together. The published protocol trains the boundaries alone for 30 of
    240 epochs and the labels alone afterwards: `init=30`. Its optimiser of the first phase, with a rate of its own, is
    the run's here.

    Args:
        teacher: a trained staged network.
        student: the staged network to train; the last stages are paired where the counts differ.
        weight: of the boundaries (0.003, the 3 / 1000 of the benchmarks' code).
        ce: weight of the labels (1).
        margin: m (1).
        init: epochs of the initialisation phase, boundaries alone; the labels alone follow (0, none; published 30).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 3e-3,
        ce: float = 1.0,
        margin: float = 1.0,
        init: int = 0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce, self.margin, self.init = weight, ce, margin, init
        self.pairs = [(f"{a}.preact", f"{b}.preact") for a, b in common_stages(self.name, teacher, student)]
        theirs = tap_shapes(teacher, [pair[0] for pair in self.pairs], image_shape)
        own = tap_shapes(student, [pair[1] for pair in self.pairs], image_shape)
        self.connectors = nn.ModuleList(connector(own[mine], theirs[taught]) for taught, mine in self.pairs)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=From(self.init, self.ce) if self.init else self.ce)
        for back, (theirs, own), regress in zip(
            reversed(range(len(self.pairs))), self.pairs, self.connectors, strict=True
        ):
            weight = self.weight / 2**back
            loss = ActivationBoundary(self.margin)
            schedule = Until(self.init, weight) if self.init else weight
            yield Transfer(f"teacher.{theirs}", f"student.{own}", loss, weight=schedule, via=regress)
