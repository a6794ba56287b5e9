"""What the runs of one process need only once: images read, engines of teachers, teacher logits on the test set."""

from __future__ import annotations

from typing import Any

from torch import nn

from attar.data import Samples
from attar.experiments.build import Held, held_for
from attar.experiments.given_objects import Given
from attar.experiments.kept_choices import Choices
from attar.experiments.teacher_predictions import TeacherLogits, TeacherPredictions
from attar.recipe import Recipe
from attar.teachers.selection import Engines


class SharedResources:
    """Samples, engines and teacher logits, handed from each run of a process to the next.

    Only those of the latest task, data section and training set are kept: the runs of a suite that use the same data
    follow each other. Every run ends as it would alone, bit for bit.

    Args:
        teacher_logits: logits of teachers on test sets that are computed already.
        choices: what the runs choose by timing, once for all of them; None: each for itself.
    """

    def __init__(self, teacher_logits: TeacherLogits | None = None, choices: Choices | None = None) -> None:
        self.choices = choices or Choices()
        self.teacher_logits: TeacherLogits = {} if teacher_logits is None else teacher_logits
        self._samples: tuple[Any, Held] | None = None
        self._engines: Engines | None = None

    def clear(self) -> None:
        """Drop what was read, and the engines."""
        self._samples = self._engines = None

    def samples_of(self, recipe: Recipe, given: Given) -> Held:
        """What was read for the task and the data section of a recipe; it may be added to."""
        key = (recipe.task, recipe.data, given.task)
        if self._samples is None or self._samples[0] != key:
            self._samples = (key, held_for(recipe, given))
        return self._samples[1]

    def engines(self, images: Samples) -> Engines:
        """The engines of frozen networks, calibrated on a training set."""
        if self._engines is None or self._engines.images.fingerprint != images.fingerprint:
            self._engines = Engines(images)
        return self._engines

    def teacher_predictions(self, net: nn.Module) -> TeacherPredictions:
        """The teacher with its cached test-set logits, which students' agreement is measured with."""
        return TeacherPredictions(net, self.teacher_logits)
