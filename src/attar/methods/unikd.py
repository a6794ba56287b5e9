"""UniKD: features of all depths become one distribution, and distil the way logits do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError, unknown
from attar.knowledge import Knowledge, Output, Transfer
from attar.losses import DKD, MLKD, GaussianKL, KLDivergence
from attar.losses.distributions import Gaussian
from attar.losses.numerics import widen
from attar.methods.base import Method
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import AFF, FDP, Frozen, Staged, Tapped, tap_shapes
from attar.models.surgery.fusion import Gate
from attar.schedules import LinearWarmup

Logits = Literal["kd", "dkd", "mlkd"]
Shape = tuple[int, ...]
# The widest that fusion is inside, as in the code.
MAX_MID = 512
# Log-variances are held to this range where Gaussians are compared in closed form, samples of them as well.
LOGVAR = (-10.0, 10.0)


@dataclass(frozen=True)
class Profile:
    """What the accounts of the paper and the code disagree on.

    Attributes:
        gate: how a shallow and a deep map are mixed.
        logits: the loss on logits.
        fused_teacher: whether the teacher's levels are fused too; otherwise its first stage stands for it.
        closed_form: whether Gaussians are compared, or samples of them.
    """

    gate: Gate
    logits: Logits
    fused_teacher: bool
    closed_form: bool


PROFILES = {
    "paper": Profile("convex", "kd", fused_teacher=True, closed_form=True),
    "code": Profile("dual", "dkd", fused_teacher=False, closed_form=False),
}


@register(
    "unikd",
    title="Unified Knowledge Distillation",
    paper="arXiv:2409.18565",
    year=2024,
    family="offline",
    needs=("stages", "pooled"),
)
class UniKD(Method):
    """Harmonizing Knowledge Transfer with Unified Distillation (Huang et al., ECCV 2024).

    Features of all depths are fused (`AFF`) and read as a Gaussian of K dimensions, one for each class (`FDP`):
    L = ce * CE + kd * L_logits + feat * L_feat + anchor * [KD(z_S, student's logits) + KD(z_T, teacher's logits)].
    L_feat compares the two Gaussians; z is a sample of each, and the anchors tie it to what its own network predicts,
    without which both Gaussians could shrink to a constant. FDPs and fusion only train and are not deployed.

    profile="code", the default, is public code that looks like the authors' but is not announced as theirs: two
    independent gates, the teacher's first stage unfused, L_feat = KL of the softmaxes of z_T and z_S, logits by DKD.
    profile="paper" follows second-hand accounts of the paper, whose text was not available: convex gates, both networks
    fused, L_feat = KL(N_T || N_S) / K, logits by KD. RECONSTRUCTED in it: the teacher's fusion, K, the division by K,
    the anchors and all weights.

    Args:
        teacher: a trained staged network.
        student: the staged network to train.
        profile: "code" or "paper".
        gate: "convex" or "dual"; None as the profile.
        logits: "kd", "dkd" or "mlkd" (multi-level, on one view); None as the profile.
        fusion: whether levels are fused; False predicts from the deepest, the pooled features, on both sides.
        ce: weight of the labels (1, code).
        kd: weight of the logits (1, code).
        feat: weight of the distributions (1, code).
        anchor: weight of each anchor (1, code).
        temperature: T of "kd" and "dkd" (4; 1 on ImageNet; code).
        feat_temperature: T of samples and anchors (1, code).
        dkd_alpha: weight of DKD's target-class part (1, code).
        dkd_beta: of DKD's other classes (code: 8 for resnet32x4 pairs, 6 for wrn and vgg, 2 for resnet56 and 110).
        warmup: epochs until DKD's full weight (20 of 240, code); the other losses have none.
        student_preact: tap the student before each stage's last ReLU too, as the code does on ImageNet.
        detach_feat_target: whether the teacher's Gaussian stops learning from L_feat.
        detach_anchor_target: whether the student's logits stop learning from its anchor.
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: networks without stages, an unknown profile, gate or logits, or a teacher's Gaussian from which
            no edge is left.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        profile: str = "code",
        gate: Gate | None = None,
        logits: Logits | None = None,
        fusion: bool = True,
        ce: float = 1.0,
        kd: float = 1.0,
        feat: float = 1.0,
        anchor: float = 1.0,
        temperature: float = 4.0,
        feat_temperature: float = 1.0,
        dkd_alpha: float = 1.0,
        dkd_beta: float = 8.0,
        warmup: int = 20,
        student_preact: bool = False,
        detach_feat_target: bool = False,
        detach_anchor_target: bool = False,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        if profile not in PROFILES:
            raise unknown("profile", profile, PROFILES)
        self.profile = PROFILES[profile]
        self.logits = logits or self.profile.logits
        if self.logits not in get_args(Logits):
            raise unknown("logits", self.logits, get_args(Logits))
        if feat and not anchor and detach_feat_target:
            raise AttarError(
                "method 'unikd': nothing trains the teacher's Gaussian; give method.anchor=1, or "
                "method.detach_feat_target=false"
            )
        self.ce, self.kd, self.feat, self.anchor, self.warmup = ce, kd, feat, anchor, warmup
        self.temperature, self.feat_temperature = temperature, feat_temperature
        self.dkd_alpha, self.dkd_beta = dkd_alpha, dkd_beta
        self.detach_feat_target, self.detach_anchor_target = detach_feat_target, detach_anchor_target
        teacher, student = require_staged(self.name, "teacher", teacher), require_staged(self.name, "student", student)
        self.teacher, self.student = Frozen(teacher), Tapped(student)
        built: dict[str, Predictor] = {}
        if feat or anchor:
            theirs = tap_shapes(teacher, levels(teacher, preact=True), image_shape)
            own = tap_shapes(student, levels(student, student_preact), image_shape)
            built = predictors(theirs, own, student.classifier.out_features, self.profile, gate, fusion)
        self.taps = {name: predictor.taps for name, predictor in built.items()}
        self.fdp = nn.ModuleDict(dict(built))

    def run(self, batch: Batch) -> Knowledge:
        taught = self.teacher(batch.inputs, self.taps.get("teacher", ()))
        learnt = self.student(batch.inputs, self.taps.get("student", ()))
        knowledge = Knowledge(batch, teacher=taught, student=learnt)
        for name, predict in self.fdp.items():
            mu, logvar = predict(taught if name == "teacher" else learnt)
            if self.profile.closed_form:
                logvar = logvar.clamp(*LOGVAR)
            knowledge.add(f"{name}_fdp.gaussian", (mu, logvar))
            knowledge.add(f"{name}_fdp.sample", sample((mu, logvar), batch.rng(f"{name} sample"), batch))
        return knowledge

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield self.logits_edge()
        if self.fdp:
            yield self.feature_edge()
            anchor = KLDivergence(self.feat_temperature)
            learns = learners(self.detach_anchor_target)
            yield Transfer("student.logits", "student_fdp.sample", anchor, weight=self.anchor, learns=learns)
            yield Transfer("teacher.logits", "teacher_fdp.sample", anchor, weight=self.anchor)

    def logits_edge(self) -> Transfer:
        """What the teacher's logits teach."""
        pair = ("teacher.logits", "student.logits")
        if self.logits == "kd":
            return Transfer(*pair, KLDivergence(self.temperature), weight=self.kd)
        if self.logits == "mlkd":
            return Transfer(*pair, MLKD(), weight=self.kd)
        dkd = DKD(self.dkd_alpha, self.dkd_beta, self.temperature)
        return Transfer(*pair, dkd, weight=LinearWarmup(self.warmup, self.kd), given=("labels",))

    def feature_edge(self) -> Transfer:
        """What the teacher's Gaussian teaches, and learns."""
        # "mean" divides by K, which gives the closed form the scale of the sampled one.
        loss = GaussianKL("mean") if self.profile.closed_form else KLDivergence(self.feat_temperature)
        kind = "gaussian" if self.profile.closed_form else "sample"
        return Transfer(
            f"teacher_fdp.{kind}",
            f"student_fdp.{kind}",
            loss,
            weight=self.feat,
            learns=learners(self.detach_feat_target),
        )

    def deployed(self) -> nn.Module:
        return self.student.module


class Predictor(nn.Module):
    """One network's features as a Gaussian.

    Args:
        shapes: each tap's shape; without fusion there is one.
        num_classes: dimensions of the Gaussian.
        fused_to: (C, H, W) of the map that the levels are fused to; None does not fuse.
        gate: of the fusion.
    """

    def __init__(
        self, shapes: Mapping[str, Shape], num_classes: int, fused_to: Shape | None = None, gate: Gate = "convex"
    ) -> None:
        super().__init__()
        self.taps = tuple(shapes)
        channels = [shape[0] for shape in shapes.values()]
        self.fuse = None
        if fused_to is not None:
            width, *size = fused_to
            self.fuse = AFF(channels, min(MAX_MID, channels[-1]), width, gate, (size[0], size[1]))
            channels = [width]
        self.read = FDP(channels[0], num_classes)

    def forward(self, kind: Output) -> Gaussian:
        features = [kind.tap(tap) for tap in self.taps]
        return self.read(features[0] if self.fuse is None else self.fuse(features))


def levels(net: Staged, preact: bool) -> list[str]:
    """The taps of all depths, shallow to deep: every stage, before its last ReLU or after it, and the pooled vector."""
    return [*(f"stage{number}{'.preact' * preact}" for number in range(1, len(net.stages) + 1)), "pooled"]


def predictors(
    theirs: Mapping[str, Shape],
    own: Mapping[str, Shape],
    num_classes: int,
    profile: Profile,
    gate: Gate | None,
    fusion: bool,
) -> dict[str, Predictor]:
    """The teacher's and the student's predictor, from the shapes of their levels."""
    if not fusion:
        sides = {"teacher": theirs, "student": own}
        return {name: Predictor({"pooled": shapes["pooled"]}, num_classes) for name, shapes in sides.items()}
    first, target = next(iter(theirs.items()))
    fused = partial(Predictor, num_classes=num_classes, fused_to=target, gate=gate or profile.gate)
    unfused = Predictor({first: target}, num_classes)
    return {"teacher": fused(theirs) if profile.fused_teacher else unfused, "student": fused(own)}


def learners(detach_source: bool) -> Literal["target", "both"]:
    """Who learns along an edge."""
    return "target" if detach_source else "both"


def sample(gaussian: Gaussian, generator: torch.Generator, batch: Batch | None = None) -> Tensor:
    """One draw mu + exp(logvar / 2) * eps for each row; drawn for all rows of a batch of which these are a part.

    >>> mu = torch.ones(1, 3)
    >>> sample((mu, torch.full_like(mu, -40.0)), torch.Generator())
    tensor([[1., 1., 1.]])
    """
    mu, logvar = (widen(part) for part in gaussian)
    rows = len(mu) if batch is None else batch.whole
    noise = torch.randn(rows, *mu.shape[1:], generator=generator, device=mu.device, dtype=mu.dtype)
    return mu + (logvar / 2).exp() * (noise if batch is None else batch.own(noise))
