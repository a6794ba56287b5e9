"""Two views of each image, the usual and a strongly varied one, each through teacher and student."""

from __future__ import annotations

from collections.abc import Mapping

from attar.batch import Batch
from attar.knowledge import Knowledge
from attar.methods.base import Offline

# RandAugment(2, 10) of the authors of MLKD and CRLD; it changes colours, so images of one channel get a hole.
STRONG = {"rand_augment": 2, "magnitude": 10}


class TwoViews(Offline):
    """An offline method whose knowledge has "teacher_strong" and "student_strong" beside "teacher" and "student".

    Each network sees the two views one after the other, so that batch norm keeps their statistics apart, as the
    authors' code does.

    Attributes:
        strong: changes to the data's augmentation that make the second view.
    """

    strong: Mapping[str, object]

    def views(self) -> dict[str, dict[str, object]]:
        return {"strong": dict(self.strong)}

    def run(self, batch: Batch) -> Knowledge:
        images = {"": batch.images, "_strong": batch.view("strong")}
        outputs = {f"teacher{view}": self.teacher(seen) for view, seen in images.items()}
        return Knowledge(batch, **outputs, **{f"student{view}": self.student(seen) for view, seen in images.items()})


def strong_view(image_shape: tuple[int, int, int] | None) -> dict[str, object]:
    """The published changes, or, for images of another number of channels than 3, a hole of half the side.

    >>> strong_view((3, 32, 32)), strong_view((1, 8, 8))
    ({'rand_augment': 2, 'magnitude': 10}, {'cutout': 4})
    """
    if image_shape is None or image_shape[0] == 3:
        return dict(STRONG)
    return {"cutout": max(image_shape[-1] // 2, 1)}
