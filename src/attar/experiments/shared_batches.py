"""Several students at one teacher's feet: what trainings that take turns in one process need only once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from attar.batch import Batch
from attar.data import DeviceLoader, ImageSet, Loader, Wrapped
from attar.experiments.build import Held
from attar.experiments.teacher_predictions import TeacherLogits, TeacherPredictions
from attar.recipe import DataRecipe
from attar.teachers.selection import Engines


class Classroom:
    """The images, the batches and the frozen teachers of trainings that take turns.

    Students of the same seed see the same batches, made once; teachers with the same weights, computed the same way,
    answer once for each. Nothing else is shared, so each training ends as it would alone, to the last bit.

    Args:
        students: how many trainings take turns; one shares nothing and keeps nothing.
        heard: what teachers said already about the images that students are examined on.
    """

    def __init__(self, students: int = 1, heard: TeacherLogits | None = None) -> None:
        self.shared = students > 1
        self._images: dict[str, Held] = defaultdict(Held)
        self._engines: dict[str, Engines] = {}
        self._streams: dict[str, Stream] = {}
        self.heard: TeacherLogits = {} if heard is None else heard

    def images_of(self, data: DataRecipe) -> Held:
        """What was read for this section of a recipe; it may be added to."""
        return self._images[repr(data)]

    def engines(self, images: ImageSet) -> Engines:
        """Ways to compute frozen networks, calibrated on a training set."""
        if not self.shared:
            return Engines(images)
        return self._engines.setdefault(images.fingerprint, Engines(images, kept=True))

    def teacher_predictions(self, net: nn.Module) -> TeacherPredictions:
        """A network that students are compared with."""
        return TeacherPredictions(net, self.heard)

    def batches(self, loader: DeviceLoader) -> Loader:
        """A loader's batches; those of an equal one where another training has one."""
        if not self.shared:
            return loader
        return Together(loader, self._streams.setdefault(loader.identity, Stream(loader)))


@dataclass
class Together(Wrapped):
    """A loader that takes its batches from a stream for as long as its training keeps in step with the others.

    Attributes:
        loader: gives the same batches.
        stream: where they are made once for all.
    """

    stream: Stream

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, as the loader gives them."""
        passing, step = self.stream.join(epoch, start_step), start_step
        while step < len(self) and passing.reaches(step):
            yield passing.batch(step)
            step += 1
        if step < len(self):
            yield from self.loader.epoch(epoch, step)


class Stream:
    """One loader's batches for everybody in step."""

    def __init__(self, loader: DeviceLoader) -> None:
        self.loader = loader
        self._passing: Passing | None = None

    def join(self, epoch: int, step: int) -> Passing:
        """The pass over an epoch that is about to give this step or has just given it, begun here if there is none."""
        if self._passing is None or self._passing.number != epoch or not self._passing.reaches(step):
            self._passing = Passing(self.loader, epoch, step)
        return self._passing


class Passing:
    """An epoch's batches from one step on; only the last is kept."""

    def __init__(self, loader: DeviceLoader, number: int, step: int) -> None:
        self.number, self._steps = number, len(loader)
        self._batches, self._next = loader.epoch(number, step), step
        self._last: Batch | None = None

    def reaches(self, step: int) -> bool:
        """Whether a step's batch is the next one or the last."""
        return step == self._next or (step == self._next - 1 and self._last is not None)

    def batch(self, step: int) -> Batch:
        """The next batch, or the last again."""
        if self._last is None or step == self._next:
            # Nobody's any more, should the reading fail.
            self._last, self._next = None, -1
            self._last, self._next = next(self._batches), step + 1
            if self._next == self._steps:
                next(self._batches, None)  # so that processes that read ahead are free for the next epoch
        return self._last
