"""The deployable network of SimKD and ATSC: a student's trunk, a projector, a teacher's classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from attar.errors import AttarError
from attar.models.registry import BUILDERS, Spec, build
from attar.models.surgery.adapters import shrunk
from attar.models.surgery.staged import Staged, averaged

Size = tuple[int, int]


class ProjectedNet(nn.Module):
    """A student's stem and stages, then per teacher: size, projector, average, classifier; the mean of their logits.

    The student's own layers after its last stage are left out. All parameters are shared with the modules given:
    deepcopy the network to keep a moment of training.

    Args:
        student: the staged network that gives the trunk.
        projectors: one for each teacher, from the student's last map to the teacher's.
        classifiers: the teachers' linear layers, in the same order.
        map_sizes: (H, W) of each teacher's map; a larger map of the student is averaged down to it before the
            projector, as in training. None never does.

    Raises:
        AttarError: the numbers of projectors, classifiers and sizes differ, or the classifiers' classes do.

    >>> from attar.models import SimKDProjector, create_model
    >>> student = create_model("resnet8x4")
    >>> net = ProjectedNet(student, SimKDProjector(256, 256), nn.Linear(256, 100))
    >>> sum(parameter.numel() for parameter in net.parameters())
    1447556
    """

    def __init__(
        self,
        student: Staged,
        projectors: nn.Module | Sequence[nn.Module],
        classifiers: nn.Linear | Sequence[nn.Linear],
        map_sizes: Sequence[Size] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(student, Staged):
            raise AttarError(
                f"a projected network needs a staged student, not a {type(student).__name__}; see list_models()"
            )
        projectors = [projectors] if isinstance(projectors, nn.Module) else list(projectors)
        classifiers = [classifiers] if isinstance(classifiers, nn.Module) else list(classifiers)
        check_teachers(projectors, classifiers, map_sizes)
        self.trunk = student.without("head")
        self.projectors = nn.ModuleList(projectors)
        self.classifiers = nn.ModuleList(classifiers)
        self.map_sizes = None if map_sizes is None else [(height, width) for height, width in map_sizes]
        self.input_shape = student.input_shape
        self._student_spec = student.spec

    def forward(self, images: Tensor) -> Tensor:
        x = self.last_map(images)
        return torch.stack([self.logits(number, x) for number in range(len(self.projectors))]).mean(0)

    def last_map(self, images: Tensor) -> Tensor:
        """The trunk's last map."""
        x = self.trunk.stem(images)
        for index in range(len(self.trunk.layout.stages)):
            x, _ = self.trunk.run_stage(index, x)
        return x

    def logits(self, number: int, x: Tensor) -> Tensor:
        """The logits of teacher `number`'s classifier (from 0) on the student's last map."""
        if self.map_sizes is not None:
            x = shrunk(x, self.map_sizes[number])
        return self.classify(number, self.projectors[number](x))

    def classify(self, number: int, projected: Tensor) -> Tensor:
        """The logits of teacher `number`'s classifier on a projected map."""
        return self.classifiers[number](averaged(projected))

    @property
    def spec(self) -> dict[str, Any]:
        """Plain data from which `build` rebuilds the network without its weights.

        Raises:
            AttarError: the student or a projector was made by hand and has no spec.
        """
        projectors = [getattr(projector, "spec", None) for projector in self.projectors]
        if self._student_spec is None or None in projectors:
            raise AttarError(
                "a student or projector made by hand has no spec; use create_model, adapter or SimKDProjector"
            )
        return {
            "kind": "projected",
            "student": self._student_spec,
            "projectors": projectors,
            "classifiers": [
                {"in_features": layer.in_features, "out_features": layer.out_features, "bias": layer.bias is not None}
                for layer in self.classifiers
            ],
            "map_sizes": None if self.map_sizes is None else [list(size) for size in self.map_sizes],
        }


def check_teachers(
    projectors: Sequence[nn.Module], classifiers: Sequence[nn.Linear], map_sizes: Sequence[Size] | None
) -> None:
    """One projector, one classifier and one size for every teacher, and one number of classes."""
    count = len(projectors)
    if not count or len(classifiers) != count:
        raise AttarError(f"{count} projectors for {len(classifiers)} classifiers; give one of each for every teacher")
    if map_sizes is not None and len(map_sizes) != count:
        raise AttarError(f"{len(map_sizes)} map sizes for {count} projectors; give one for every teacher")
    classes = sorted({classifier.out_features for classifier in classifiers})
    if len(classes) > 1:
        raise AttarError(f"the classifiers have {classes} classes; use teachers of the same classes")


def _projected(spec: Spec) -> ProjectedNet:
    projectors = [build(projector) for projector in spec["projectors"]]
    classifiers = [nn.Linear(**layer) for layer in spec["classifiers"]]
    return ProjectedNet(cast(Staged, build(spec["student"])), projectors, classifiers, spec["map_sizes"])


BUILDERS["projected"] = _projected
