"""OFD: maps before the ReLU, with a margin for what the teacher switches off."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.losses import PartialL2, negative_mean
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import common_stages, connector
from attar.methods.registry import register
from attar.models import tap_shapes
from attar.models.surgery.staged import Block, Staged


@register(
    "ofd",
    title="A Comprehensive Overhaul of Feature Distillation",
    paper="arXiv:1904.01866",
    year=2019,
    family="offline",
    needs=("stages",),
)
class OFD(Offline):
    """A Comprehensive Overhaul of Feature Distillation (Heo et al., ICCV 2019).

    L = ce * CE + weight * sum over stages i of 2^(i - n) * partial L2(connector(S_i), max(T_i, m_i)), summed over
    channels and positions, divided by the batch; S and T are the maps before a stage's last ReLU, connectors a 1x1
    convolution with batch norm. The margin m of a channel is E[x | x < 0], from the weight and bias of the teacher's
    last batch norm in the stage (`attar.losses.negative_mean`).

    Deviates: where a stage does not end in a batch norm and ReLU (wide ResNets), m is the mean of the channel's
    negative values in the batch. In a residual block the shortcut is left out of m, as in the authors' code.

    Args:
        teacher: a trained staged network.
        student: the staged network to train; the last stages are paired where the counts differ.
        weight: of the maps (0.001; 0.0001 on ImageNet).
        ce: weight of the labels (1).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 1e-3,
        ce: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        self.pairs = [(f"{a}.preact", f"{b}.preact") for a, b in common_stages(self.name, teacher, student)]
        theirs = tap_shapes(teacher, [pair[0] for pair in self.pairs], image_shape)
        own = tap_shapes(student, [pair[1] for pair in self.pairs], image_shape)
        self.connectors = nn.ModuleList(connector(own[mine], theirs[taught]) for taught, mine in self.pairs)

    def run(self, batch: Batch) -> Knowledge:
        known, teacher = super().run(batch), self.teacher.module
        assert isinstance(teacher, Staged)
        for taught, _ in self.pairs:
            before = known[f"teacher.{taught}"]
            assert isinstance(before, Tensor)
            norm = last_norm(teacher, taught)
            margin = negative_part(before) if norm is None else negative_mean(norm.bias, norm.weight)
            # A row for each image, as all knowledge has.
            known.add(f"teacher.{taught}.margin", margin[None, :, None, None].expand(len(batch), -1, 1, 1))
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        for back, (taught, own), regress in zip(
            reversed(range(len(self.pairs))), self.pairs, self.connectors, strict=True
        ):
            ends, given = (f"teacher.{taught}", f"student.{own}"), (f"teacher.{taught}.margin",)
            yield Transfer(*ends, PartialL2(), weight=self.weight / 2**back, given=given, via=regress)


def last_norm(net: Staged, tap: str) -> nn.BatchNorm2d | None:
    """The batch norm before a stage's last ReLU; None where the stage does not end in the two."""
    stage = net.stages[int(tap.removeprefix("stage").removesuffix(".preact")) - 1]
    last = stage[-1] if isinstance(stage, nn.Sequential) else None
    if not isinstance(last, Block):
        return None
    named = getattr(last, "last_norm", None)
    if isinstance(named, nn.BatchNorm2d):
        return named
    norms = [module for module in last.modules() if isinstance(module, nn.BatchNorm2d)]
    return norms[-1] if norms else None


def negative_part(x: Tensor) -> Tensor:
    """(C,) the mean of each channel's negative values in (B, C, H, W); 0 where it has none."""
    negative = (x < 0).sum((0, 2, 3))
    return x.clamp(max=0).sum((0, 2, 3)) / torch.clamp(negative, min=1)
