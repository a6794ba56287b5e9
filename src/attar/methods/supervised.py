"""Plain training: the labels are the only teacher."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Method
from attar.methods.registry import register
from attar.models import Tapped


@register("supervised", title="Supervised training", paper="", year=1986, family="baseline")
class Supervised(Method):
    """Cross-entropy with the labels and nothing else: the baseline every method is compared with.

    Args:
        student: the network to train.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = Tapped(student)

    def run(self, batch: Batch) -> Knowledge:
        return Knowledge(batch, student=self.student(batch.inputs))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge()

    def deployed(self) -> nn.Module:
        return self.student.module
