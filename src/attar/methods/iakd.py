"""IAKD: stages of the student are replaced at random by the teacher's during training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError, PairError, unknown
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Method
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import Frozen, Staged, Tapped, tap_shapes

Schedule = Literal["uniform", "linear", "review"]


@register(
    "iakd",
    title="Interactive Knowledge Distillation",
    paper="arXiv:2007.01476",
    year=2020,
    family="offline",
    needs=("stages", "family"),
)
class IAKD(Method):
    """Interactive Knowledge Distillation for Image Classification (Fu et al., Neurocomputing 2021).

    L = CE(head(h_J), labels), with h_0 = stem(images) and h_j = b_j S_j(h_{j-1}) + (1 - b_j) T_j(h_{j-1}). For each
    batch and stage b_j is drawn, 0 with the probability p of a swap. Stem and head are the student's. The
    teacher's stages are frozen and in eval mode; the gradient passes through them to the student's earlier stages. A
    stage that was replaced gets a gradient of 0. Only one of the two stages is computed. In eval mode nothing is
    replaced.

    Deviates: a block is a whole stage, so its down-sampling is swapped with it. A stage is swapped where both networks'
    have equal shapes at both ends; other stages always are the student's.

    RECONSTRUCTED: the full text was not available. The names of the three schedules are remembered, not read in the
    paper; their shapes and every number are ours.

    Args:
        teacher: a trained staged network with the student's number of stages (resnet56 for resnet20, vgg13 for vgg8).
        student: the staged network to train.
        swap: p at the start (0.5).
        schedule: of p: "uniform" (constant), "linear" (to 0 in the last epoch) or "review" (to 0 in the last epoch
            of each learning-rate phase, and from the start again in the next).
        restarts: where the phases of "review" begin, as shares of the epochs (150, 180 and 210 of 240).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: an unknown schedule, a probability outside 0..1, or networks without a stage that can be swapped.

    >>> from attar.models import create_model
    >>> IAKD(create_model("resnet14"), create_model("resnet8")).swappable
    (0, 1, 2)
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        swap: float = 0.5,
        schedule: Schedule = "review",
        restarts: Sequence[float] = (0.625, 0.75, 0.875),
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        if schedule not in get_args(Schedule):
            raise unknown("schedule", schedule, get_args(Schedule))
        if not 0 <= swap <= 1:
            raise AttarError(f"iakd: swap={swap} is no probability; give a number from 0 to 1")
        nets = require_staged(self.name, "teacher", teacher), require_staged(self.name, "student", student)
        self.swap, self.schedule, self.restarts = swap, schedule, tuple(restarts)
        self.swappable = equal_stages(*nets, image_shape)
        self.teacher, self.student = Frozen(teacher), Tapped(student)

    def run(self, batch: Batch) -> Knowledge:
        net, teacher = self.stages_of(self.student), self.stages_of(self.teacher).eval()
        x = net.stem(batch.images)
        for index, replaced in enumerate(self.replaced(batch)):
            if replaced:
                x = Unused.apply(teacher.run_stage(index, x)[0], *net.stages[index].parameters())
            else:
                x = net.run_stage(index, x)[0]
        final = net.final(x)
        return Knowledge(batch, student=net.output(final, net.average(final)))

    def stages_of(self, network: Frozen | Tapped) -> Staged:
        """The staged network inside."""
        return require_staged(self.name, "student", network.module)

    def replaced(self, batch: Batch) -> list[bool]:
        """For each stage whether it is the teacher's in this batch."""
        # Drawn on the CPU, so that the choice does not wait for the device.
        draws = torch.rand(len(self.stages_of(self.student).stages), generator=batch.address.generator("swap")).tolist()
        p = self.probability(batch.address.epoch, batch.epochs) if self.training else 0.0
        return [draw < p and index in self.swappable for index, draw in enumerate(draws)]

    def probability(self, epoch: int, epochs: int) -> float:
        """p in an epoch (from 0)."""
        if self.schedule == "uniform":
            return self.swap
        epoch = min(epoch, epochs - 1)  # a loop of one's own may leave the number of epochs out
        inner = [round(share * epochs) for share in self.restarts] if self.schedule == "review" else []
        start, end = next((a, b) for a, b in pairwise([0, *inner, epochs]) if a <= epoch < b)
        return self.swap * (1 - (epoch - start) / max(end - start - 1, 1))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge()

    def deployed(self) -> nn.Module:
        return self.student.module


class Unused(torch.autograd.Function):
    """The identity, which also gives parameters that had no part in it a gradient of 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients[0], *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors)


def equal_stages(teacher: Staged, student: Staged, image_shape: tuple[int, int, int] | None) -> tuple[int, ...]:
    """The stages, from 0, that take and give maps of one shape in both networks.

    Raises:
        PairError: the networks have different numbers of stages, or no stage is equal.
    """
    counts = len(teacher.stages), len(student.stages)
    if counts[0] != counts[1]:
        raise PairError(f"method 'iakd': the teacher has {counts[0]} stages, the student {counts[1]}")
    taps = ["stem", *(f"stage{number}" for number in range(1, counts[0] + 1))]
    theirs, own = (tap_shapes(net, taps, image_shape) for net in (teacher, student))
    equal = [theirs[tap] == own[tap] for tap in taps]
    found = tuple(index for index, both in enumerate(pairwise(equal)) if all(both))
    if not found:
        raise PairError(f"method 'iakd': no stage has equal shapes in teacher {theirs} and student {own}")
    return found
