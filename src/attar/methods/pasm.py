"""PASM: images without the point that matters most to the teacher."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Offline
from attar.methods.common.drawn_rows import check_probability, drawn_rows, require_class_numbers
from attar.methods.registry import register
from attar.models.attribution import input_gradient


@register(
    "pasm",
    title="Point Adversarial Self-Mining",
    paper="arXiv:2008.11401",
    year=2020,
    family="offline",
)
class PASM(Offline):
    """Point Adversarial Self Mining (Liu et al., IEEE Transactions on Cybernetics 2022), one generation.

    L = ce * CE(student(x'), labels) + kd * T^2 KL(p_t(x) || p_s(x')). With probability `erase` a square of the image is
    erased for the student, centred where the gradient of the teacher's cross-entropy, summed over channels without
    sign, is largest. The teacher is a network of the student's kind from the generation before and sees x. For the next
    generation give the trained student as the teacher. In eval mode nothing is erased.

    RECONSTRUCTED: only the abstract was available. The attack (one gradient), the square, its value 0 (the mean colour
    of normalised images), the probability and the generations' number are ours; temperature and weights are KD's.

    Args:
        teacher: the network of the generation before.
        student: the network to train.
        temperature: T (4).
        ce: weight of the labels (0.1).
        kd: weight of the teacher (0.9).
        erase: probability that an image loses its square (0.5).
        side: of the square, as a share of the image's shorter side (0.25).

    Raises:
        AttarError: erase or side outside 0..1; a batch with images that have no label, or several.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 4.0,
        ce: float = 0.1,
        kd: float = 0.9,
        erase: float = 0.5,
        side: float = 0.25,
    ) -> None:
        super().__init__(teacher, student)
        check_probability(self.name, "erase", erase)
        if not 0 < side <= 1:
            raise AttarError(f"pasm: side={side}; give a share of the image's shorter side, above 0 and at most 1")
        self.temperature, self.ce, self.kd, self.erase, self.side = temperature, ce, kd, erase, side

    def run(self, batch: Batch) -> Knowledge:
        require_class_numbers(self.name, batch)
        return Knowledge(batch, teacher=self.teacher(batch.inputs), student=self.student(self.harder(batch)))

    def leave_graphs(self) -> None:
        """Keep the gradients of the images out of what is compiled."""
        self.harder = torch.compiler.disable(self.harder)  # type: ignore[method-assign]

    def harder(self, batch: Batch) -> Tensor:
        """The images (B, C, H, W) that the student sees."""
        rows = drawn_rows(batch, "erase", self.erase if self.training else 0.0)
        if not len(rows):
            return batch.images
        images = batch.images[rows]
        gradient = input_gradient(self.teacher.differentiable(rows), images, batch.labels[rows])
        points = gradient.abs().sum(1).flatten(1).argmax(1)
        side = max(round(self.side * min(images.shape[-2:])), 1)
        return batch.images.index_copy(0, rows, erased(images, points, side))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield self.output_edge("teacher", "student", self.temperature, self.kd)


def erased(images: Tensor, points: Tensor, side: int) -> Tensor:
    """The images with 0 in a square around one point each, cut off at the border.

    Args:
        images: (B, C, H, W).
        points: (B,) the middle of each square, row * W + column.
        side: of the square; an even one reaches further up and left.

    >>> int((erased(torch.ones(1, 1, 5, 5), torch.tensor([0]), 3) == 0).sum())
    4
    """
    height, width = images.shape[-2:]
    near = []
    for middle, length in ((points // width, height), (points % width, width)):
        away = torch.arange(length, device=images.device) - middle[:, None]
        near.append((away >= -(side // 2)) & (away < side - side // 2))
    return images.masked_fill((near[0][:, :, None] & near[1][:, None, :])[:, None], 0.0)
