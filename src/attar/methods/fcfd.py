"""FCFD: the student's features have to work inside the teacher, and the teacher's inside the student."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar import losses
from attar.batch import Batch
from attar.errors import PairError
from attar.knowledge import Knowledge, Output, Transfer
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import require_staged
from attar.methods.iakd import Unused
from attar.methods.registry import register
from attar.models import Staged, tap_shapes
from attar.models.surgery.adapters import resized
from attar.models.surgery.staged import Block
from attar.schedules import LinearWarmup

# Mixed paths of one step.
TAILS = 2


@register(
    "fcfd",
    title="Function-Consistent Feature Distillation",
    paper="ICLR 2023",
    year=2023,
    family="offline",
    needs=("stages", "family"),
)
class FCFD(Offline):
    """Function-Consistent Feature Distillation (Liu et al., ICLR 2023).

    L = ce * CE + kd * T^2 KL(t || s) + mixed * sum over the step's two mixed paths of T^2 KL(t || path)
    + w(epoch) * (mean squared errors of every feature that arrives at a stage of the teacher), w rising linearly.

    A mixed path leaves one network after a stage, passes a bridge (3x3 convolution and batch norm) and goes through the
    other's later stages and head; two of all cuts and both directions are drawn for each batch. The student's features
    reach the teacher's stages by the bridges too; at the last stage the pooled features after a ReLU are compared as
    well. Gradients pass through the frozen teacher.

    Deviates: the teacher stays in eval mode, where the authors' code lets its batch norms follow the batches. The
    student's batch norms keep their running statistics in mixed paths; the authors have copies of them.

    Reconstructed: that the student's own features are compared at every stage, not only after the drawn cuts.

    Args:
        teacher: a trained staged network with the student's number of stages.
        student: the staged network to train.
        weight: w, of the features (5; 0.02 for resnet56 to resnet20).
        temperature: T (4; 8 for resnet32x4 to ShuffleNets).
        ce: weight of the labels (1).
        kd: weight of the teacher's logits (1).
        mixed: weight of each mixed path (1).
        warmup: epochs until the full weight of the features (20).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: the networks have different numbers of stages, or only one.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 5.0,
        temperature: float = 4.0,
        ce: float = 1.0,
        kd: float = 1.0,
        mixed: float = 1.0,
        warmup: int = 20,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.temperature, self.ce, self.kd, self.mixed = weight, temperature, ce, kd, mixed
        self.warmup = warmup
        nets = require_staged(self.name, "teacher", teacher), require_staged(self.name, "student", student)
        self.depth = len(nets[0].stages)
        if self.depth != len(nets[1].stages) or self.depth < 2:
            raise PairError(
                f"method 'fcfd': the teacher has {self.depth} stages, the student {len(nets[1].stages)}; expected as "
                "many, two or more"
            )
        self.taps = [f"stage{number}" for number in range(1, self.depth + 1)]
        theirs, own = (tap_shapes(net, self.taps, image_shape) for net in nets)
        self.to_teacher = nn.ModuleList(bridge(own[tap], theirs[tap], ends_in_relu(nets[0], tap)) for tap in self.taps)
        self.to_student = nn.ModuleList(
            bridge(theirs[tap], own[tap], ends_in_relu(nets[1], tap)) for tap in self.taps[:-1]
        )
        # (whether the student's feature goes on in the teacher, after which stage, from 0)
        self.cuts = [(into_teacher, cut) for into_teacher in (True, False) for cut in range(self.depth - 1)]

    def run(self, batch: Batch) -> Knowledge:
        theirs, own = self.teacher(batch.inputs, self.taps), self.student(batch.inputs, self.taps)
        arrived = {tap: [bridge(own.tap(tap))] for tap, bridge in zip(self.taps, self.to_teacher, strict=True)}
        paths, used = [], set[nn.Module]()
        for number in self.drawn(batch):
            into_teacher, cut = self.cuts[number]
            if into_teacher:
                path = self._tail(self.teacher.module, arrived[self.taps[cut]][0], cut)
                for tap in self.taps[cut + 1 :]:
                    arrived[tap].append(path.tap(tap))
            else:
                used.add(self.to_student[cut])
                start = self.to_student[cut](theirs.tap(self.taps[cut]))
                with still_statistics(self.student):
                    path = self._tail(self.student.module, start, cut)
            paths.append(path.logits)
        idle = [p for one in self.to_student if one not in used for p in one.parameters()]
        known = Knowledge(batch, teacher=theirs, student=replace(own, logits=Unused.apply(own.logits, *idle)))
        for number, logits in enumerate(paths, 1):
            known.add(f"path{number}.{batch.output}", logits)
        pairs = [(feature, theirs.tap(tap)) for tap in self.taps for feature in arrived[tap]]
        last = [(pooled(feature), pooled(theirs.tap(self.taps[-1]))) for feature in arrived[self.taps[-1]]]
        return known.add("teacher.expected", tuple(there for _, there in pairs + last)).add(
            "student.arrived", tuple(here for here, _ in pairs + last)
        )

    def _tail(self, net: nn.Module, x: Tensor, cut: int) -> Output:
        """What a network makes of a feature after its stage `cut`."""
        return require_staged(self.name, "teacher", net).resume(x, start=cut + 1, taps=self.taps[cut + 1 :])

    def drawn(self, batch: Batch) -> list[int]:
        """The mixed paths of a batch, by their numbers in `cuts`."""
        # On the CPU, so that the choice does not wait for the device.
        return torch.randperm(len(self.cuts), generator=batch.address.generator("tails"))[:TAILS].tolist()

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield self.output_edge("teacher", "student", self.temperature, self.kd)
        for number in range(1, TAILS + 1):
            yield self.output_edge("teacher", f"path{number}", self.temperature, self.mixed)
        yield Transfer("teacher.expected", "student.arrived", SummedMSE(), LinearWarmup(self.warmup, self.weight))


class SummedMSE(nn.Module):
    """The sum of mean squared errors of pairs of features.

    >>> SummedMSE()((torch.zeros(2), torch.ones(1)), (torch.ones(2), torch.ones(1))).item()
    1.0
    """

    def forward(self, learner: Sequence[Tensor], source: Sequence[Tensor]) -> Tensor:
        return torch.stack([losses.mse(one, other) for one, other in zip(learner, source, strict=True)]).sum()


def pooled(x: Tensor) -> Tensor:
    """A map after a ReLU, averaged over space."""
    return F.relu(x).mean((2, 3))


def bridge(own: tuple[int, ...], theirs: tuple[int, ...], relu: bool) -> nn.Sequential:
    """From one network's map to another's: 3x3, of stride 2 to half the size, transposed 4x4 to twice the size.

    >>> bridge((16, 8, 8), (32, 4, 4), True)(torch.zeros(2, 16, 8, 8)).shape
    torch.Size([2, 32, 4, 4])
    """
    (inputs, *old), (outputs, *new) = own, theirs
    layers: list[nn.Module]
    if new == [2 * side for side in old]:
        layers = [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)]
    elif old == [2 * side for side in new]:
        layers = [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)]
    else:
        layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), *resized(old, new)]
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), *([nn.LeakyReLU(0.1)] if relu else []))


def ends_in_relu(net: Staged, tap: str) -> bool:
    """Whether a stage gives what comes out of a ReLU."""
    stage = net.stages[int(tap.removeprefix("stage")) - 1]
    return isinstance(stage, nn.Sequential) and isinstance(stage[-1], Block)


@contextmanager
def still_statistics(net: nn.Module) -> Iterator[None]:
    """Inside, batch norms in training do not move their running statistics."""
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
