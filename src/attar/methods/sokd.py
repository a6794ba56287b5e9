"""SOKD: a bridge learns from a frozen teacher and from the student, and the student learns from the bridge."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Literal, cast

from torch import nn

from attar.batch import Batch
from attar.errors import AttarError, unknown
from attar.knowledge import Knowledge, Transfer
from attar.losses import CC, MSE, NST, PKT, AttentionTransfer, Loss, SimilarityPreserving
from attar.methods.base import Method
from attar.methods.common.stage_pairs import require_staged, stage_name
from attar.methods.registry import register
from attar.models import Bridge, Frozen, Staged, Tapped, adapter, tap_shapes

FEATURE_LOSSES: dict[str, type[Loss]] = {
    "at": AttentionTransfer,
    "cc": CC,
    "mse": MSE,
    "nst": NST,
    "pkt": PKT,
    "sp": SimilarityPreserving,
}
# These compare element by element; the others take features of any width.
SAME_SHAPE = ("cc", "mse")


@register(
    "sokd",
    title="Semi-Online Knowledge Distillation",
    paper="arXiv:2111.11747",
    year=2021,
    family="semi-online",
    needs=("stages",),
)
class SOKD(Method):
    """Semi-Online Knowledge Distillation (Liu, Liu and Huang, BMVC 2021).

    A fresh copy of the teacher's upper part, the bridge, reads the frozen teacher's map and trains beside the student:

        L = a1 CE(bridge) + a2 KL(bridge <- teacher) + a3 KL(bridge <- student)
          + l1 CE(student) + l2 KL(student <- bridge)

    with KL(q <- p) = T^2 KL(p_T || q_T), the target p detached, averaged over the batch. The student never sees the
    teacher. The losses, their weights, T, the split and the random bridge are those of the official code (WRN on
    CIFAR-100). Reconstructed, because code and abstract leave them open: bridges for other teachers and splits,
    kbm_init="teacher", and the feature terms, which mirror the three KL terms.
    Deviates: the trunk's batch norms stay in eval mode; the official code runs them on batch statistics, which
    teacher_bn="train" does too. The bridge is initialised as the teacher's family is, with torch's own bias of the
    classifier (0 there).

    Args:
        teacher: a trained staged network.
        student: the network to train; it needs stages only for a `feature_loss` on maps.
        temperature: T of every KL (4).
        split: how many of the teacher's stages stay below the bridge, -1: all but the last; 0: the bridge is a whole
            second teacher; "last": the bridge is the head alone.
        kbm_init: "random" bridge, or a copy of the "teacher"'s upper part.
        teacher_bn: "eval", or "train": the frozen trunk uses batch statistics in training and its running statistics
            drift. That happens to a copy of the teacher, which is then part of the method's state.
        a1: weight of the labels for the bridge (1).
        a2: weight of the teacher for the bridge (1).
        a3: weight of the student's feedback for the bridge (1).
        l1: weight of the labels for the student (1).
        l2: weight of the bridge for the student (1).
        feature_loss: "at", "cc", "mse", "nst", "pkt" or "sp" between features as well; None for logits alone.
        feature: which features: "map", the last stage's, or "pooled".
        b1: weight of the bridge's features for the student.
        b2: weight of the teacher's features for the bridge.
        b3: weight of the student's features for the bridge.
        image_shape: (C, H, W) of one image, for the adapter of `feature_loss`; by default the networks' own.

    Raises:
        AttarError: the teacher is not staged, or an option has an unknown value.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 4.0,
        split: int | str = -1,
        kbm_init: Literal["random", "teacher"] = "random",
        teacher_bn: Literal["eval", "train"] = "eval",
        a1: float = 1.0,
        a2: float = 1.0,
        a3: float = 1.0,
        l1: float = 1.0,
        l2: float = 1.0,
        feature_loss: str | None = None,
        feature: Literal["map", "pooled"] = "map",
        b1: float = 1.0,
        b2: float = 1.0,
        b3: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        teacher = require_staged(self.name, "teacher", teacher)
        if teacher_bn not in ("eval", "train"):
            raise unknown("teacher_bn", teacher_bn, ("eval", "train"))
        self.temperature, self.feature_loss = temperature, feature_loss
        self.a1, self.a2, self.a3, self.l1, self.l2 = a1, a2, a3, l1, l2
        self.b1, self.b2, self.b3 = b1, b2, b3
        self.bridge = Bridge(teacher, split, kbm_init)
        self.student = Tapped(student)
        # A drifting teacher is a submodule, so that train() and eval() reach its norms and resuming restores them.
        drifting = teacher_bn == "train"
        self.teacher = Tapped(copy.deepcopy(teacher).requires_grad_(False).train()) if drifting else Frozen(teacher)
        if self.bridge.source:
            self.teacher.request(self.bridge.source)
        self.has_context = type(teacher).context is not Staged.context
        if self.has_context:
            self.teacher.request("stem")
        if feature_loss is not None:
            self._meet_features(teacher, student, feature, image_shape)

    def _meet_features(
        self, teacher: Staged, student: nn.Module, feature: str, image_shape: tuple[int, int, int] | None
    ) -> None:
        """Choose the features that are compared, and the adapter from the student's to the bridge's."""
        if self.feature_loss not in FEATURE_LOSSES:
            raise unknown("feature_loss", str(self.feature_loss), FEATURE_LOSSES)
        if feature not in ("map", "pooled"):
            raise unknown("feature", feature, ("map", "pooled"))
        if self.bridge.start == len(teacher.stages):
            raise AttarError("sokd: the bridge is the head alone and has no features; leave feature_loss out")
        self.theirs, self.own = _last_features("teacher", teacher, feature), _last_features("student", student, feature)
        learner = tap_shapes(student, [self.own], image_shape)[self.own]
        source = tap_shapes(teacher, [self.theirs], image_shape)[self.theirs]
        fits = self.feature_loss not in SAME_SHAPE or learner == source
        # Without a ReLU: residual sums and linear bottlenecks, which it has to reach, have both signs.
        self.adapter = nn.Identity() if fits else adapter(learner, source, relu=False)
        self.student.request(self.own)

    def run(self, batch: Batch) -> Knowledge:
        taught, learnt = self.teacher(batch.inputs), self.student(batch.inputs)
        seen = taught.tap(self.bridge.source) if self.bridge.source else batch.inputs
        teacher = cast(Staged, self.teacher.module)
        context = teacher.context(batch.inputs, taught.tap("stem")) if self.has_context else None
        bridged = self.bridge(seen, [self.theirs] if self.feature_loss else [], context)
        knowledge = Knowledge(batch, teacher=taught, bridge=bridged, student=learnt)
        return knowledge.add("student.adapted", self.adapter(learnt.tap(self.own))) if self.feature_loss else knowledge

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge("bridge", self.a1)
        yield self.output_edge("teacher", "bridge", self.temperature, self.a2)
        yield self.output_edge("student", "bridge", self.temperature, self.a3)
        yield self.label_edge(weight=self.l1)
        yield self.output_edge("bridge", "student", self.temperature, self.l2)
        if self.feature_loss:
            loss, feature = FEATURE_LOSSES[self.feature_loss](), f"bridge.{self.theirs}"
            yield Transfer(feature, "student.adapted", loss, weight=self.b1)
            yield Transfer(f"teacher.{self.theirs}", feature, loss, weight=self.b2)
            yield Transfer("student.adapted", feature, loss, weight=self.b3)

    def deployed(self) -> nn.Module:
        return self.student.module

    def also_deployed(self) -> dict[str, nn.Module]:
        return {"improved teacher": self.bridge.on(cast(Staged, self.teacher.module))}


def _last_features(role: str, net: nn.Module, feature: str) -> str:
    """The tap of the last stage's map, or of the pooled features."""
    return feature if feature == "pooled" else stage_name(SOKD.name, role, require_staged(SOKD.name, role, net), -1)
