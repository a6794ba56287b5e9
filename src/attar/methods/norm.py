"""NORM: the student's last map, widened to several copies of the teacher's and brought back."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.losses import MSE
from attar.losses.checks import check_positive
from attar.losses.numerics import widen
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import tap_shapes
from attar.models.surgery.folding import wide
from attar.models.surgery.staged import Staged

# Parameter-free LayerNorm of logits times this, in the authors' code.
_SPREAD = 2.5
_STEPS = ((10, 0.1), (20, 0.5), (180, 1.0), (210, 0.5))


@dataclass(frozen=True)
class Phases:
    """weight times 0.1, 0.5, 1, 0.5 and 0.1, changing after 10, 20, 180 and 210 of 240 epochs, in proportion.

    >>> [Phases()(epoch, 240) for epoch in (0, 10, 20, 180, 210)]
    [0.1, 0.5, 1.0, 0.5, 0.1]
    """

    weight: float = 1.0

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.weight * next((factor for end, factor in _STEPS if epoch * 240 < end * epochs), 0.1)


@register(
    "norm",
    title="Knowledge Distillation via N-to-One Representation Matching",
    paper="ICLR 2023",
    year=2023,
    family="offline",
    needs=("stages", "classifier"),
)
class NORM(Offline):
    """NORM: Knowledge Distillation via N-to-One Representation Matching (Liu et al., ICLR 2023).

    L = ce * CE + kd * KL + weight * phase * copies * MSE(E(F_s), the teacher's last map repeated `copies` times). E
    widens the student's last map to `copies` times the teacher's channels, a second layer brings it back, and the sum
    with the map itself is what the student's classifier sees; both layers are a 1x1 convolution with batch norm. Logits
    pass a LayerNorm without parameters, times 2.5, before CE and KL. A larger map of the teacher is max-pooled.

    What is deployed is the student alone: the layers are linear, and so is the average after them, so both are folded
    into its classifier, at the scale of its own logits.

    Deviates: the phase changes in proportion to the run's epochs, at 10, 20, 180 and 210 of 240. The authors search ce
    over 1/16 to 1/2 by pair. A larger map of the student is averaged.

    Args:
        teacher: a trained staged network.
        student: the staged network to train, whose classifier sees the average of its last map.
        copies: N (8, as for resnet32x4).
        weight: of the maps (1).
        kd: weight of the KL divergence (0, none).
        temperature: of the KL divergence (4).
        ce: weight of the labels (0.1).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        copies: int = 8,
        weight: float = 1.0,
        kd: float = 0.0,
        temperature: float = 4.0,
        ce: float = 0.1,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        require_staged(self.name, "teacher", teacher)
        require_staged(self.name, "student", student)
        check_positive("copies", copies)
        super().__init__(teacher, student)
        self.copies, self.weight, self.kd, self.temperature, self.ce = copies, weight, kd, temperature, ce
        for network in (self.teacher, self.student):
            network.request("final")
        theirs, own = (tap_shapes(net, ["final"], image_shape)["final"][0] for net in (teacher, student))
        self.expand, self.back = linear(own, copies * theirs), linear(copies * theirs, own)

    def run(self, batch: Batch) -> Knowledge:
        teacher, student, net = self.teacher(batch.inputs), self.student(batch.inputs), self.student.module
        assert isinstance(net, Staged)
        final, theirs = student.tap("final"), teacher.tap("final")
        expanded = self.expand(final)
        joined = final + self.back(expanded)
        logits = net.output(joined, net.average(joined))
        teacher, student = replace(teacher, logits=spread(teacher.logits)), replace(student, logits=spread(logits))
        known = Knowledge(batch, teacher=teacher, student=student)
        size = (min(final.shape[-2], theirs.shape[-2]), min(final.shape[-1], theirs.shape[-1]))
        known.add("student.expanded", F.adaptive_avg_pool2d(expanded, size))
        return known.add("teacher.repeated", F.adaptive_max_pool2d(theirs, size).repeat(1, self.copies, 1, 1))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        if self.kd:
            yield self.output_edge("teacher", "student", self.temperature, weight=self.kd)
        weight = Phases(self.weight * self.copies)
        yield Transfer("teacher.repeated", "student.expanded", MSE(), weight=weight)

    def deployed(self) -> nn.Module:
        net = copy.deepcopy(self.student.module)
        assert isinstance(net, Staged)
        matrix, offset = product_of(self.expand, self.back)
        weight, bias = net.classifier.weight.data, net.classifier.bias
        if bias is None:
            bias = net.classifier.bias = nn.Parameter(weight.new_zeros(len(weight)))
        bias.data += weight @ offset.to(weight)
        weight += weight @ matrix.to(weight)
        return net


def linear(inputs: int, outputs: int) -> nn.Sequential:
    """A 1x1 convolution with batch norm, and nothing that bends."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def spread(logits: Tensor) -> Tensor:
    """Logits of mean 0 and deviation 2.5 over the classes."""
    return _SPREAD * F.layer_norm(widen(logits), logits.shape[1:])


@torch.no_grad()
def product_of(*layers: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Matrix and offset of `linear` layers one after the other, with the norms' running statistics."""
    first, *rest = (folded(layer) for layer in layers)
    for matrix, offset in rest:
        first = matrix @ first[0], matrix @ first[1] + offset
    return first


def folded(layer: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Matrix and offset of one layer, in float64 on the CPU."""
    conv, norm = layer
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = wide(norm.weight) / (wide(norm.running_var) + norm.eps).sqrt()
    offset = wide(norm.bias) - scale * wide(norm.running_mean)
    return scale[:, None] * wide(conv.weight).flatten(1), offset
