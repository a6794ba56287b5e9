"""ReviewKD: each level of the student, fused with all deeper ones, is compared with the teacher's level."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.losses import MSE, HierarchicalContext
from attar.losses.checks import check_positive
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import common_stages
from attar.methods.registry import register
from attar.models import tap_shapes
from attar.models.surgery.fusion import as_map
from attar.schedules import LinearWarmup


@register(
    "reviewkd",
    title="Distilling Knowledge via Knowledge Review",
    paper="arXiv:2104.09044",
    year=2021,
    family="offline",
    needs=("stages",),
)
class ReviewKD(Offline):
    """Distilling Knowledge via Knowledge Review (Chen et al., CVPR 2021).

    L = ce * CE + weight * sum over levels of HCL(review_n, T_n). The levels are the stages and the pooled features,
    from the deepest to the shallowest: a level passes a 1x1 convolution, is mixed with what was fused so far by two
    gates, and a 3x3 convolution makes the review in the teacher's shape. HCL is `attar.losses.hierarchical_context`;
    of the pooled features it is the squared error. The teacher's stages are taken before their last ReLU, the
    student's after it, as in the authors' CIFAR-100 recipe.

    Args:
        teacher: a trained staged network.
        student: the staged network to train; the last stages are paired where the counts differ.
        weight: of the reviews (0.6 for resnet56 to resnet20; 1 for resnet110 to resnet32, 5 for resnet32x4 to
            resnet8x4, wide ResNets and ShuffleNetV1, 8 for ShuffleNetV2).
        ce: weight of the labels (1).
        warmup: epochs until the weight is full (20).
        width: channels of the fused maps at most (512); never more than the student's last level has.
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 0.6,
        ce: float = 1.0,
        warmup: int = 20,
        width: int = 512,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        check_positive("width", width)
        super().__init__(teacher, student)
        self.weight, self.ce, self.warmup = weight, ce, warmup
        stages = common_stages(self.name, teacher, student)
        self.theirs = [*(f"{taught}.preact" for taught, _ in stages), "pooled"]
        self.own = [*(own for _, own in stages), "pooled"]
        for tap in self.own:
            self.student.request(tap)
        targets, levels = tap_shapes(teacher, self.theirs, image_shape), tap_shapes(student, self.own, image_shape)
        width = min(width, levels["pooled"][0])
        self.fusions = nn.ModuleList(
            Fusion(levels[own][0], width, targets[taught], deepest=own == "pooled")
            for taught, own in zip(self.theirs, self.own, strict=True)
        )

    def run(self, batch: Batch) -> Knowledge:
        known, fused = super().run(batch), None
        for tap, fuse in reversed(list(zip(self.own, self.fusions, strict=True))):
            level = known[f"student.{tap}"]
            assert isinstance(level, Tensor)
            review, fused = fuse(as_map(level), fused)
            known.add(f"student.{tap}.review", review)
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        for taught, own in zip(self.theirs, self.own, strict=True):
            loss = MSE() if own == "pooled" else HierarchicalContext()
            weight = LinearWarmup(self.warmup, self.weight)
            yield Transfer(f"teacher.{taught}", f"student.{own}.review", loss, weight=weight)


class Fusion(nn.Module):
    """The attention-based fusion of one level (ABF).

    Args:
        inputs: channels of the level.
        width: channels of the fused map.
        target: the teacher's shape, (C, H, W) or (C,).
        deepest: nothing below it to be fused with.
    """

    def __init__(self, inputs: int, width: int, target: tuple[int, ...], deepest: bool) -> None:
        super().__init__()
        outputs, *self.size = target
        self.enter = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width))
        self.leave = nn.Sequential(nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.gates = None if deepest else nn.Conv2d(2 * width, 2, 1)
        for conv in (*self.enter, *self.leave):
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_uniform_(conv.weight, a=1)

    def forward(self, level: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """The review in the teacher's shape, and the fused map for the next shallower level."""
        fused = self.enter(level)
        if self.gates is not None:
            assert deeper is not None
            deeper = F.interpolate(deeper, fused.shape[-2:])
            gates = self.gates(torch.cat([fused, deeper], dim=1)).sigmoid()
            fused = fused * gates[:, :1] + deeper * gates[:, 1:]
        if self.size and list(fused.shape[-2:]) != self.size:
            fused = F.interpolate(fused, self.size)
        review = self.leave(fused)
        return (review if self.size else review.flatten(1)), fused
