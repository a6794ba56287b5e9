"""What the runs of one process need only once: images read, engines of teachers, teacher logits on the test set."""

from __future__ import annotations

from torch import nn

from attar.data import ImageSet
from attar.experiments.build import Held
from attar.experiments.choices import Choices
from attar.experiments.teacher_predictions import TeacherLogits, TeacherPredictions
from attar.recipe import DataRecipe
from attar.teachers.selection import Engines


class SharedResources:
    """Images, engines and teacher logits, handed from each run of a process to the next.

    Only those of the latest data section and training set are kept: the runs of a suite that use the same data follow
    each other. Every run ends as it would alone, bit for bit.

    Args:
        teacher_logits: logits of teachers on test sets that are computed already.
        choices: what the runs choose by timing, once for all of them; None: each for itself.
    """

    def __init__(self, teacher_logits: TeacherLogits | None = None, choices: Choices | None = None) -> None:
        self.choices = choices or Choices()
        self.teacher_logits: TeacherLogits = {} if teacher_logits is None else teacher_logits
        self._images: tuple[DataRecipe, Held] | None = None
        self._engines: Engines | None = None

    def images_of(self, data: DataRecipe) -> Held:
        """What was read for this data section of a recipe; it may be added to."""
        if self._images is None or self._images[0] != data:
            self._images = (data, Held())
        return self._images[1]

    def engines(self, images: ImageSet) -> Engines:
        """The engines of frozen networks, calibrated on a training set."""
        if self._engines is None or self._engines.images.fingerprint != images.fingerprint:
            self._engines = Engines(images)
        return self._engines

    def teacher_predictions(self, net: nn.Module) -> TeacherPredictions:
        """The teacher with its cached test-set logits, which students' agreement is measured with."""
        return TeacherPredictions(net, self.teacher_logits)
