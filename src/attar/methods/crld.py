"""CRLD: two views of each image teach within and across, where the teacher is sure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from attar.knowledge import Transfer
from attar.losses import ConfidentKL
from attar.methods.common.two_views import TwoViews, strong_view
from attar.methods.registry import register


@register(
    "crld",
    title="Cross-View Consistency Regularisation for Knowledge Distillation",
    paper="ACM MM 2024",
    year=2024,
    family="offline",
)
class CRLD(TwoViews):
    """Cross-View Consistency Regularisation for Knowledge Distillation (Zhang et al., ACM MM 2024).

    Of a weak view w and a strong view s of each image, L = ce * (CE_w + CE_s)
    + within * mean [conf_w >= sure_weak] (KD(t_w, s_w) + KD(t_s, s_s))
    + across * mean [conf_s >= sure_strong] (KD(t_w, s_s) + KD(t_s, s_w)), KD = T^2 KL, conf the teacher's largest
    probability on a view. The formula is that of the authors' code.

    Args:
        teacher: a trained network.
        student: the network to train.
        temperature: T (4).
        ce: weight of the labels, on each view (1).
        within: weight of equal views (2).
        across: weight of different views (0.5).
        sure_weak: least confidence on the weak view (0.9).
        sure_strong: least confidence on the strong view (0.2).
        strong: changes to the augmentation that make the strong view (RandAugment of 2 changes at magnitude 10; a hole
            of half the side, which is ours, where images have not 3 channels).
        image_shape: (C, H, W) of one image, to choose them by; None: 3 channels.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 4.0,
        ce: float = 1.0,
        within: float = 2.0,
        across: float = 0.5,
        sure_weak: float = 0.9,
        sure_strong: float = 0.2,
        strong: Mapping[str, Any] | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.ce, self.within, self.across = ce, within, across
        self.sure_weak = ConfidentKL(temperature, sure_weak)
        self.sure_strong = ConfidentKL(temperature, sure_strong)
        self.strong = strong_view(image_shape) if strong is None else strong

    def transfers(self) -> Iterable[Transfer]:
        weak, strong = ("teacher.logits",), ("teacher_strong.logits",)
        for view in ("", "_strong"):
            yield self.label_edge(f"student{view}", self.ce)
        for theirs in ("", "_strong"):
            for own in ("", "_strong"):
                within = theirs == own
                loss, given = (self.sure_weak, weak) if within else (self.sure_strong, strong)
                weight = self.within if within else self.across
                yield Transfer(f"teacher{theirs}.logits", f"student{own}.logits", loss, weight, given=given)
