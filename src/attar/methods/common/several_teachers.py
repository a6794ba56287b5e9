"""The base of methods that learn from the logits of several frozen teachers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge
from attar.methods.base import Method
from attar.models import Frozen, Tapped


class SeveralTeachers(Method):
    """Frozen teachers and a student that look at the same images.

    The knowledge has "teacher1.logits", ... and all of them together as "teachers.logits".

    Args:
        teacher: a trained network, or a list of them.
        student: the network to train.

    Raises:
        AttarError: the list is empty.
    """

    many_teachers = True

    def __init__(self, teacher: nn.Module | Sequence[nn.Module], student: nn.Module) -> None:
        super().__init__()
        given = [teacher] if isinstance(teacher, nn.Module) else list(teacher)
        if not given:
            raise AttarError(f"method {self.name!r} needs a teacher; give one or more, teacher=a,b")
        self.names = [f"teacher{number}" for number in range(1, len(given) + 1)]
        for name, net in zip(self.names, given, strict=True):
            setattr(self, name, Frozen(net))
        self.student = Tapped(student)

    def run(self, batch: Batch) -> Knowledge:
        outputs = {name: getattr(self, name)(batch.inputs) for name in self.names}
        known = Knowledge(batch, **outputs, student=self.student(batch.inputs))
        return known.add(f"teachers.{batch.output}", tuple(one.logits for one in outputs.values()))

    def logits_of(self, known: Knowledge) -> list[Tensor]:
        """Each teacher's logits (B, K), in order."""
        return [value for name in self.names if isinstance(value := known[f"{name}.logits"], Tensor)]

    def deployed(self) -> nn.Module:
        return self.student.module
