"""ATSC: a teacher that adapts to its student, tethered to where it started, and a classifier they share."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError, PairError, unknown
from attar.knowledge import Knowledge, Transfer
from attar.losses import MSE, CrossEntropy, L2ToStart
from attar.methods.base import Method
from attar.methods.common.stage_pairs import require_staged, stage_name
from attar.methods.registry import register
from attar.models import ProjectedNet, SimKDProjector, Staged, match_size, tap_shapes
from attar.models.copying import copied

Update = Literal["layer", "bias", "none"]
Tether = Literal["kernels", "all"]


@dataclass(frozen=True)
class Profile:
    """How far the teacher may move: the weight of the tether, what it holds, the factor of its learning rate."""

    w: float
    tether: Tether
    teacher_lr: float


PROFILES = {"held": Profile(10.0, "all", 0.1), "code": Profile(1.0, "kernels", 1.0)}
# The second optimiser step of a batch.
CLASSIFY = "classify"


@register(
    "atsc",
    title="Adaptive Teaching with a Shared Classifier",
    paper="arXiv:2406.08528",
    year=2024,
    family="semi-online",
    needs=("stages", "classifier"),
)
class ATSC(Method):
    """Adaptive Teaching with a Shared Classifier for Knowledge Distillation (Jang et al., 2024).

    Two steps per batch. The first moves the student's trunk, the projector and the teacher's trunk:
    L1 = beta * MSE(projector(student's last map), teacher's last map) + w * sum ||theta - theta_0||^2,
    with theta the teacher's convolution kernels and theta_0 their pretrained values; the sum is not averaged. The
    second, phase "classify", moves only the teacher's classifier: L2 = CE(teacher, labels), after another forward pass
    of the updated teacher. The student uses that classifier, so labels reach it only through the teacher.
    Everything runs in training mode, so the teacher's running statistics move twice per batch.

    The losses, weights and steps are those of the authors' code, which has one teacher; the paper's full text was not
    available. Reconstructed: "layer" (from the abstract's shared classifier), and several teachers, where each has
    its own projector, tether and classifier, L1 is the mean over teachers, and so are the student's logits.
    profile="code" has the authors' values. Nothing in their objective opposes a teacher whose last map shrinks to zero,
    which is the smallest feature loss there is, and at the rates we tried it ends at chance within 160 steps. So the
    default, profile="held", is ours: it tethers the norms and biases too, ten times as firmly, and moves the teacher at
    a tenth of the learning rate.
    Deviates: what is compared is the map that the teacher averages, so that every family can teach; for a wide
    ResNet it comes after the last norm, for MobileNetV2 and ShuffleNetV2 after the last convolution.

    Args:
        teacher: a trained staged network, or several. Copies of them adapt; the networks given stay as they are.
        student: the staged network to train; its own layers after the last stage are not used.
        factor: the projector's bottleneck: its inner width is the teacher's divided by this (2).
        beta: weight of the features (1).
        profile: "held" (ours) or "code" (the authors' CIFAR-100 commands).
        w: weight of the tether; None as the profile, 10 or 1 (the authors' commands for ImageNet have 10). SGD with
            momentum 0.9 needs teacher_lr * lr * 2w < 3.8, with Nesterov's momentum < 1.35.
        classifier_update: what the labels move: "layer", the classifier's weight and bias, or "bias", only the bias,
            while its weight is tethered with the kernels (the code), or "none", nothing, as in SimKD.
        tether: what is held to its start: "kernels", everything of two or more dimensions (the code), or "all", the
            norms' scales and shifts and the biases too (held); None as the profile.
        teacher_lr: the teacher's learning rate as a multiple of the recipe's, its classifier's included; None as the
            profile, 0.1 or 1. Runs apply it; a loop of your own builds its optimiser of
            `method.parameter_groups(lr, phase)`.
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: no teacher, networks without stages or of different classes, an unknown profile, classifier_update
            or tether, or "bias" for a classifier that has none.
    """

    many_teachers = True
    phases = ("", CLASSIFY)

    def __init__(
        self,
        teacher: nn.Module | Sequence[nn.Module],
        student: nn.Module,
        *,
        factor: int = 2,
        beta: float = 1.0,
        profile: str = "held",
        w: float | None = None,
        classifier_update: Update = "layer",
        tether: Tether | None = None,
        teacher_lr: float | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        if classifier_update not in get_args(Update):
            raise unknown("classifier_update", classifier_update, get_args(Update))
        if profile not in PROFILES:
            raise unknown("profile", profile, PROFILES)
        chosen = PROFILES[profile]
        tether = tether or chosen.tether
        if tether not in get_args(Tether):
            raise unknown("tether", tether, get_args(Tether))
        self.beta, self.w = beta, chosen.w if w is None else w
        self.teacher_lr = chosen.teacher_lr if teacher_lr is None else teacher_lr
        if classifier_update == "none":
            self.phases = ("",)  # type: ignore[assignment, misc]
        pupil = require_staged(self.name, "student", student)
        # Copied one by one: the same network given twice is two teachers.
        given = [teacher] if isinstance(teacher, nn.Module) else teacher
        nets = [copied(require_staged(self.name, "teacher", net)) for net in given]
        check_classifiers([net.classifier for net in nets], pupil.classifier.out_features, classifier_update)
        names = ["teacher"] if len(nets) == 1 else [f"teacher{number}" for number in range(1, len(nets) + 1)]
        self._teachers = nn.ModuleDict(
            {name: Tethered(net, classifier_update, tether) for name, net in zip(names, nets, strict=True)}
        )
        self.student = projected_student(pupil, nets, factor, image_shape)

    @property
    def teachers(self) -> dict[str, Tethered]:
        """The teachers by name: "teacher", or "teacher1", "teacher2", ..."""
        return cast(dict[str, Tethered], dict(self._teachers.items()))

    def run(self, batch: Batch) -> Knowledge:
        if batch.phase == CLASSIFY:
            return Knowledge(batch, **{name: one.classified(batch.images) for name, one in self.teachers.items()})
        knowledge, logits = Knowledge(batch), []
        own = self.student.last_map(batch.images)
        for number, (name, one) in enumerate(self.teachers.items()):
            taught = one.net.features(batch.images, ["final"])
            mine, theirs = match_size(own, taught.tap("final"))
            projected = self.student.projectors[number](mine)
            logits.append(self.student.classify(number, projected))
            knowledge.add(f"{name}.logits", taught.logits).add(f"{name}.map", theirs)
            knowledge.add(f"{name}.weights", one.weights).add(f"{name}_start.weights", one.start)
            knowledge.add(f"student.for_{name}", projected)
        return knowledge.add("student.logits", torch.stack(logits).mean(0))

    def transfers(self) -> Iterable[Transfer]:
        count = len(self.teachers)
        for name in self.teachers:
            yield Transfer(f"{name}.map", f"student.for_{name}", MSE(), weight=self.beta / count, learns="both")
            yield Transfer(f"{name}_start.weights", f"{name}.weights", L2ToStart(), weight=self.w / count)
            if CLASSIFY in self.phases:
                yield Transfer("labels", f"{name}.logits", CrossEntropy(), phase=CLASSIFY)

    def trainable(self, phase: str = "") -> list[nn.Parameter]:
        """What the labels move in phase "classify", everything else in the first."""
        second = [parameter for one in self.teachers.values() for parameter in one.moved_by_labels]
        if phase == CLASSIFY:
            return second
        return [parameter for parameter in super().trainable() if all(parameter is not other for other in second)]

    def rate_factors(self) -> dict[nn.Module, float]:
        return {one.net: self.teacher_lr for one in self.teachers.values()}

    def deployed(self) -> nn.Module:
        """A copy of the student, since its classifier is still the teacher's."""
        return copy.deepcopy(self.student)

    def also_deployed(self) -> dict[str, nn.Module]:
        return {f"adapted {name}": one.net for name, one in self.teachers.items()}


class Tethered(nn.Module):
    """A teacher that adapts, and where it started: its tied weights as they were are part of the state.

    Tied is every trainable parameter, or those of two or more dimensions, but for what the labels move.

    Args:
        net: the teacher.
        update: what the labels move, see `ATSC`.
        tether: which parameters, see `ATSC`.

    >>> from attar.models import create_model
    >>> [len(Tethered(create_model("resnet8"), update).start) for update in ("layer", "bias", "none")]
    [9, 10, 9]
    """

    def __init__(self, net: Staged, update: Update, tether: Tether = "kernels") -> None:
        super().__init__()
        self.net = net.requires_grad_(True)
        net.classifier.requires_grad_(update != "none")
        self.moved_names = {"layer": ("weight", "bias"), "bias": ("bias",), "none": ()}[update]
        moved = set(self.moved_by_labels)
        smallest = 1 if tether == "all" else 2
        free = {name: p for name, p in net.named_parameters() if p.requires_grad and p not in moved}
        tied = {name: p for name, p in free.items() if p.ndim >= smallest}
        self.tied_names = tuple(tied)
        for name, parameter in tied.items():
            # A buffer's name may not hold a dot.
            self.register_buffer(name.replace(".", "/"), parameter.detach().clone())

    @property
    def moved_by_labels(self) -> list[nn.Parameter]:
        """The classifier's parameters that the second step moves."""
        return [parameter for name, parameter in self.net.classifier.named_parameters() if name in self.moved_names]

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """The tied weights as they are."""
        return tuple(self.net.get_parameter(name) for name in self.tied_names)

    @property
    def start(self) -> tuple[Tensor, ...]:
        """The tied weights as they were, one for one."""
        return tuple(self.buffers(recurse=False))

    def classified(self, images: Tensor) -> Tensor:
        """The logits, through which the labels reach nothing but what they move."""
        with torch.no_grad():
            pooled = self.net.features(images, ["pooled"]).tap("pooled")
        classifier = self.net.classifier
        # Autocast looks up no view in its cache, where torch 2.6 holds the copy without a gradient that was made above.
        moved = {name: parameter.view_as(parameter) for name, parameter in classifier.named_parameters()}
        weight = moved["weight"] if "weight" in self.moved_names else classifier.weight.detach()
        return F.linear(pooled, weight, moved.get("bias"))


def check_classifiers(classifiers: Sequence[nn.Linear], classes: int, update: Update) -> None:
    """There is a teacher, and its classifier can be the student's."""
    if not classifiers:
        raise AttarError("method 'atsc' needs a teacher; give one or more")
    for classifier in classifiers:
        if classifier.out_features != classes:
            raise PairError(
                f"method 'atsc': the student has {classes} classes and a teacher {classifier.out_features}; they share "
                "a classifier"
            )
        if update == "bias" and classifier.bias is None:
            raise AttarError(
                "method 'atsc': a teacher's classifier has no bias to move; use method.classifier_update=layer"
            )


def projected_student(
    student: Staged, teachers: Sequence[Staged], factor: int, image_shape: tuple[int, int, int] | None
) -> ProjectedNet:
    """The student's trunk with a projector to each teacher's averaged map, and the teachers' own classifiers."""
    last = stage_name(ATSC.name, "student", student, -1)
    channels, *_ = tap_shapes(student, [last], image_shape)[last]
    shapes = [tap_shapes(net, ["final"], image_shape)["final"] for net in teachers]
    projectors = [SimKDProjector(channels, width, factor) for width, *_ in shapes]
    sizes = [(height, width) for _, height, width in shapes]
    return ProjectedNet(student, projectors, [net.classifier for net in teachers], sizes)
