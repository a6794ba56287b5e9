"""MLKD: logits compared by image, between images and between classes, at several temperatures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from attar import losses
from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Offline
from attar.methods.common.two_views import TwoViews, strong_view
from attar.methods.registry import register


@register("mlkd", title="Multi-level Logit Distillation", paper="CVPR 2023", year=2023, family="offline")
class MLKD(TwoViews):
    """Multi-level Logit Distillation (Jin, Wang, Lin, CVPR 2023).

    L = ce * CE + kd * sum over T in 2..6 of (T^2 KL + differences of the Gram matrices of the probabilities, between
    images and between classes), see `attar.losses.mlkd`.

    With two_views=true, as the authors train: the same labels and terms on a strongly varied second view too, the terms
    of the first view at half their weight. The paper counts the half of the images of which the teacher is less sure;
    in the released code the mask multiplies means over the batch, which is the factor 0.5 that stands here.

    Deviates: one view unless two_views is set. The released code computes the second view's Gram matrices but leaves
    them out of its sum, and takes that view's KL at T 2 and 6 from the first view; here, as in the paper, every view
    has every term. The authors train for 480 epochs.

    Args:
        teacher: a trained network.
        student: the network to train.
        ce: weight of the labels, on each view (0.1).
        kd: weight of the teacher (0.9).
        two_views: whether there is a second, strongly varied view.
        strong: changes to the augmentation that make it (RandAugment of 2 changes at magnitude 10; a hole of half the
            side, which is ours, where images have not 3 channels).
        image_shape: (C, H, W) of one image, to choose them by; None: 3 channels.

    Raises:
        AttarError: strong without two_views.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        ce: float = 0.1,
        kd: float = 0.9,
        two_views: bool = False,
        strong: Mapping[str, Any] | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        if strong is not None and not two_views:
            raise AttarError(f"method {self.name!r}: strong makes the second view; give method.two_views=true with it")
        self.ce, self.kd, self.two_views = ce, kd, two_views
        self.strong = strong_view(image_shape) if strong is None else strong

    def views(self) -> dict[str, dict[str, object]]:
        return super().views() if self.two_views else {}

    def run(self, batch: Batch) -> Knowledge:
        return super().run(batch) if self.two_views else Offline.run(self, batch)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        weight = 0.5 * self.kd if self.two_views else self.kd
        yield Transfer("teacher.logits", "student.logits", losses.MLKD(), weight=weight)
        if self.two_views:
            yield self.label_edge("student_strong", self.ce)
            yield Transfer("teacher_strong.logits", "student_strong.logits", losses.MLKD(), weight=self.kd)
