"""KD+IG: images overlaid with what the teacher looks at."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Offline
from attar.methods.common.drawn_rows import check_probability, drawn_rows, require_class_numbers
from attar.methods.registry import register
from attar.models.attribution import integrated_gradients


@register(
    "kdig",
    title="Knowledge Distillation with Integrated Gradients",
    paper="arXiv:2503.13008",
    year=2025,
    family="offline",
)
class KDIG(Offline):
    """Model compression using knowledge distillation with integrated gradients (Hernandez, Chang, Nordling, 2025).

    L = (1 - kd) * CE(student(x'), labels) + kd * T^2 KL(p_t(x) || p_s(x')). With probability p an image is overlaid,
    x' = 0.5 x + 0.5 m: m is the sum over channels of |IG|, the teacher's integrated gradients for the label, to the
    power s, log s uniform in 0..log 2, and scaled to the image's range. The teacher sees x. The form with attention
    transfer is `kdig+at`. In eval mode nothing is overlaid.

    Deviates: the authors compute attributions beforehand, of views that no longer fit the student's; here they are
    those of the very view, at the cost of p * steps passes of the teacher a batch. The authors' images are not
    normalised: their map spans 0..1 and the baseline is black; here the map spans the image's smallest to largest value
    and the baseline is 0, the mean colour.

    Args:
        teacher: a trained network.
        student: the network to train.
        temperature: T (2.5).
        kd: weight of the teacher, alpha (0.01).
        p: probability that an image is overlaid (0.1).
        steps: of the integral (50, Captum's default).

    Raises:
        AttarError: p outside 0..1; a batch with images that have no label, or several.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 2.5,
        kd: float = 0.01,
        p: float = 0.1,
        steps: int = 50,
    ) -> None:
        super().__init__(teacher, student)
        check_probability(self.name, "p", p)
        self.temperature, self.kd, self.p, self.steps = temperature, kd, p, steps

    def run(self, batch: Batch) -> Knowledge:
        require_class_numbers(self.name, batch)
        return Knowledge(batch, teacher=self.teacher(batch.inputs), student=self.student(self.overlaid(batch)))

    def leave_graphs(self) -> None:
        """Keep the gradients of the images out of what is compiled."""
        self.overlaid = torch.compiler.disable(self.overlaid)  # type: ignore[method-assign]

    def overlaid(self, batch: Batch) -> Tensor:
        """The images (B, C, H, W) that the student sees."""
        rows = drawn_rows(batch, "overlay", self.p if self.training else 0.0)
        if not len(rows):
            return batch.images
        images = batch.images[rows]
        found = integrated_gradients(self.teacher.differentiable(rows), images, batch.labels[rows], self.steps)
        draws = torch.rand(batch.whole, generator=batch.rng("power"), device=batch.device)
        overlay = attribution_map(found, 2 ** batch.own(draws)[rows], images)
        return batch.images.index_copy(0, rows, (0.5 * images + 0.5 * overlay).to(images))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=1 - self.kd)
        yield self.output_edge("teacher", "student", self.temperature, self.kd)


def attribution_map(attributions: Tensor, power: Tensor, images: Tensor) -> Tensor:
    """(B, 1, H, W): the sum over channels of |attribution|, to a power, from each image's smallest to largest value.

    >>> signed = torch.tensor([[[[1.0, -3.0]], [[1.0, 1.0]]]])
    >>> attribution_map(signed, torch.ones(1), torch.tensor([[[[0.0, 1.0]], [[0.5, 0.5]]]])).tolist()
    [[[[0.0, 1.0]]]]
    """
    strength = attributions.abs().sum(1, keepdim=True) ** power.view(-1, 1, 1, 1)
    (low, high), (darkest, brightest) = (torch.aminmax(x.flatten(1), dim=1) for x in (strength, images))
    low, span, darkest, brightest = (x.view(-1, 1, 1, 1) for x in (low, high - low, darkest, brightest))
    # A map of one value everywhere stays at the image's smallest.
    return darkest + (brightest - darkest) * (strength - low) / span.clamp_min(torch.finfo(span.dtype).tiny)
