"""The base of methods whose student predicts the features of several frozen teachers; labels are not needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.methods.common.several_teachers import SeveralTeachers

# The output of a network without a classifier, and the tap of one with it.
FEATURES, POOLED = "features", "pooled"


class FeatureTeachers(SeveralTeachers):
    """Frozen teachers whose features are the targets, of networks without a classifier or of those with one."""

    needs_labels: ClassVar[bool] = False

    @property
    def tap(self) -> str:
        """What is compared: the output of networks without a classifier, else what the classifier sees."""
        return FEATURES if self.task.output == FEATURES else POOLED

    def of_teachers(self, batch: Batch) -> Knowledge:
        """What the teachers put out for a batch, their features among it; the student is not run."""
        taps = () if self.tap == FEATURES else (POOLED,)
        batch = replace(batch, output=self.task.output)
        return Knowledge(batch, **{name: getattr(self, name)(batch.inputs, taps) for name in self.names})

    def label_edges(self, weight: float) -> Iterable[Transfer]:
        """The labels, of a task that has some; the features of all networks are requested here."""
        if self.tap == POOLED:
            for name in ("student", *self.names):
                getattr(self, name).request(POOLED)
            yield self.label_edge(weight=weight)
