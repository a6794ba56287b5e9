"""RSD: one network taught by itself, its branches all on against some of them dropped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses import CrossEntropy, KLDivergence
from attar.methods.base import Method
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import Frozen, Staged, Tapped
from attar.models.surgery.reparam import dropping, merge, multi_branch


@dataclass  # not frozen: torch.compile cannot build frozen ones between the parts it traces
class Mixing:
    """How one batch is mixed.

    Attributes:
        point: after which stage; 0 is the stem.
        share: how much of itself each sample keeps, a scalar from Beta(2, 2).
        partners: (B,) whom each sample is mixed with, of the whole batch.
        batch: of which the samples are a part; None: they are all.
    """

    point: int
    share: Tensor
    partners: Tensor
    batch: Batch | None = None

    @classmethod
    def of(cls, batch: Batch, stages: int) -> Self:
        """The mixing at a batch's address."""
        rng, images = batch.rng("mix"), batch.images
        # The point is a Python number: drawn on the CPU, it does not wait for the device.
        point = int(torch.randint(stages + 1, (), generator=batch.address.generator("point")))
        # The median of three uniform numbers has the distribution Beta(2, 2).
        share = torch.rand(3, generator=rng, dtype=images.dtype, device=images.device).median()
        partners = torch.randperm(batch.whole, generator=rng, device=images.device)
        return cls(point, share, batch.own(partners), batch)

    @property
    def tap(self) -> str:
        return f"stage{self.point}" if self.point else "stem"

    def __call__(self, own: Tensor, others: Tensor) -> Tensor:
        """Each sample of the first, mixed with its partner of the second."""
        all_rows = others if self.batch is None else self.batch.all_rows(others)
        return self.share * own + (1 - self.share) * all_rows[self.partners]


@register(
    "rsd",
    title="Restructuring the Teacher and Student in Self-Distillation",
    paper="IEEE TIP 33:5551-5563",
    year=2024,
    family="self",
    needs=("stages", "convolutions"),
)
class RSD(Method):
    """Restructuring the Teacher and Student in Self-Distillation (Zheng et al., IEEE TIP 2024).

    Every 3x3 and 5x5 convolution with its norm becomes a block of five branches (`attar.models.MultiBranch`). "full" is
    the network with all branches, "student" the same weights with random branches dropped. At a random stage the full
    pass goes on with three batches: its own features, these mixed with each other ("mixed_full"), and mixed with the
    student's ("mixed_student"), all with one proportion from Beta(2, 2) and one permutation. With KL(a, b) the
    divergence of a from its source b, T^2 batchmean,
    L = alpha * [CE(student) + CE(full) + CEmix(mixed_full) + CEmix(mixed_student)]
      + beta * [KL(student, full) + KL(mixed_student, mixed_full)],
    and with an external teacher (1 - external) * L + external * KL(full, teacher). The defaults are those of the
    authors' code. In eval mode nothing is dropped or mixed: all four passes are one. What is deployed is the merged
    network, whose convolutions have biases and whose norms are folded in.

    Deviates: the authors' last published code drops nothing in ResNets and VGGs, through a lost method; the dropping
    here is that of a later commit (a6779001). External teacher: the weights are those of an unused loop in their code.

    Args:
        student: the network to train; a copy of it is restructured and its blocks are drawn anew.
        teacher: a trained network that also teaches the full pass; None, as in the paper, for self-distillation.
        drop: the probability that a branch is dropped in the student's pass (0.2).
        mixture: whether features are mixed; without it any network will do, staged or not.
        temperature: T (3).
        alpha: weight of the labels (1).
        beta: weight of the distillation inside the network (1).
        detach_teacher: whether the source of each divergence is detached; the code sends the gradient both ways.
        per_sample: whether each sample drops its own branches, as in the code, or the batch the same ones.
        duplicates: KxK branches in a block (3).
        distill: False trains the branches with the labels alone: the ablation.
        external: the external teacher's share of the loss (0.9).

    Raises:
        AttarError: mixing in a network without stages, no convolution to restructure, a rate outside [0, 1), a share
            outside [0, 1], or a teacher for a run that does not distil; in a pass that mixes, images that are mixed.

    >>> from attar.models import create_model
    >>> [edge.key for edge in RSD(create_model("resnet8"), mixture=False).edges]
    ['labels->student.logits', 'labels->full.logits', 'full.logits->student.logits']
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        drop: float = 0.2,
        mixture: bool = True,
        temperature: float = 3.0,
        alpha: float = 1.0,
        beta: float = 1.0,
        detach_teacher: bool = False,
        per_sample: bool = True,
        duplicates: int = 3,
        distill: bool = True,
        external: float = 0.9,
    ) -> None:
        super().__init__()
        if not 0 <= drop < 1:
            raise AttarError(f"rsd: drop is {drop}; give a probability in [0, 1)")
        if not 0 <= external <= 1:
            raise AttarError(f"rsd: external is {external}; give a share in [0, 1]")
        if teacher is not None and not distill:
            raise AttarError("rsd: distill=False learns from the labels alone; leave teacher= out")
        self.distill, self.mixture = distill, distill and mixture
        if self.mixture:
            require_staged(self.name, "student", student)
        self.student = Tapped(multi_branch(student, duplicates))
        self.teacher = None if teacher is None else Frozen(teacher)
        self.drop, self.per_sample = drop, per_sample
        self.temperature, self.detach_teacher = temperature, detach_teacher
        share = 1.0 if teacher is None else 1 - external
        self.alpha, self.beta, self.external = share * alpha, share * beta, external

    @property
    def passes(self) -> tuple[str, ...]:
        """What the network is asked in one step."""
        if not self.distill:
            return ("student",)
        return ("student", "full", "mixed_full", "mixed_student") if self.mixture else ("student", "full")

    def run(self, batch: Batch) -> Knowledge:
        if self.mixture and batch.mixed:
            raise AttarError("rsd mixes images itself; leave mixed images out, or give method.mixture=false")
        mixing = None
        if self.training and self.mixture:
            mixing = Mixing.of(batch, len(cast(Staged, self.student.module).stages))
        if self.training and self.distill:
            logits = self._logits(batch, mixing)
        else:
            logits = [self.student(batch.images).logits] * len(self.passes)
        knowledge = Knowledge(batch, **dict(zip(self.passes, logits, strict=True)))
        if self.mixture:
            labels = F.one_hot(batch.labels, logits[0].shape[1]).to(batch.images.dtype)
            knowledge.add("labels.mixed", mixing(labels, labels) if mixing else labels)
        if self.teacher is not None:
            knowledge.add("teacher.logits", self.teacher(batch.images).logits)
        return knowledge

    def _logits(self, batch: Batch, mixing: Mixing | None) -> list[Tensor]:
        """The logits of each pass of a training step, the student's first."""
        net, images = self.student.module, batch.images
        rows, own = (batch.whole, batch.own) if self.per_sample else (1, None)
        with dropping(net, self.drop, rows, batch.rng("drop"), own):
            student = self.student(images, [mixing.tap] if mixing else [])
        if mixing is None:
            return [student.logits, self.student(images).logits]
        return [student.logits, *mixed_pass(cast(Staged, net), images, student.tap(mixing.tap), mixing)]

    def transfers(self) -> Iterable[Transfer]:
        learns: Literal["target", "both"] = "target" if self.detach_teacher else "both"
        for learner in self.passes:
            source = "labels.mixed" if learner.startswith("mixed") else "labels"
            yield Transfer(source, f"{learner}.logits", CrossEntropy(), weight=self.alpha)
        for source, learner in (("full", "student"), ("mixed_full", "mixed_student")):
            if source in self.passes:
                kl = KLDivergence(self.temperature)
                yield Transfer(f"{source}.logits", f"{learner}.logits", kl, weight=self.beta, learns=learns)
        if self.teacher is not None:
            yield Transfer("teacher.logits", "full.logits", KLDivergence(self.temperature), weight=self.external)

    def deployed(self) -> nn.Module:
        return merge(self.student.module)


def mixed_pass(net: Staged, images: Tensor, student: Tensor, mixing: Mixing) -> tuple[Tensor, ...]:
    """The full pass, which goes on from the mixing point with three batches: the logits of each."""
    x = net.stem(images)
    for index in range(mixing.point):
        x, _ = net.run_stage(index, x)
    three = torch.cat([x, mixing(x, x), mixing(x, student)])
    return net.resume(three, start=mixing.point).logits.chunk(3)
