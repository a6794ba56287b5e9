"""DPK: the teacher's features as prior knowledge, mixed into the student's."""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses import MSE, linear_cka
from attar.losses.numerics import widen
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import common_stages
from attar.methods.registry import register
from attar.models import match_size, tap_shapes


@register(
    "dpk",
    title="Dynamic Prior Knowledge",
    paper="arXiv:2206.06067",
    year=2023,
    family="offline",
    needs=("stages",),
)
class DPK(Offline):
    """Better Teacher Better Student: Dynamic Prior Knowledge for Knowledge Distillation (Qiu et al., ICLR 2023).

    L = ce * CE + weight * sum over stages MSE(decoded, F_t). Both maps become tokens, each through an embedding and
    an encoder of its own; at a share pi of the positions, drawn anew for each image, the teacher's token stands for
    the student's; a decoder makes the teacher's map of them. pi = 1 - CKA(F_s, F_t), CKA a running mean over batches
    (momentum 0.9, from 0.5). The modules are dropped after training. `dpk+kd` adds KD, which the paper allows.

    RECONSTRUCTED, since the authors' code was not published: one transformer block as encoder and as decoder, the width
    and alpha (`weight`) are ours; the running CKA is that of an independent implementation. A map of more than `grid`
    tokens a side is divided into patches.

    Args:
        teacher: a trained staged network.
        student: the staged network to train; the last stages are paired where the counts differ.
        weight: alpha, of each stage (1).
        ce: weight of the labels (1).
        width: of the tokens, a multiple of 4 (64).
        grid: the most tokens along a side (8).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: a width or grid that tokens cannot have.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 1.0,
        ce: float = 1.0,
        width: int = 64,
        grid: int = 8,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        if width < 4 or width % 4:
            raise AttarError(f"dpk: width={width} is no multiple of 4, which its attention needs; give 64, or 32")
        if grid < 1:
            raise AttarError(f"dpk: grid={grid} leaves no token; give 1 or more")
        self.weight, self.ce = weight, ce
        self.pairs = common_stages(self.name, teacher, student)
        theirs = tap_shapes(teacher, [pair[0] for pair in self.pairs], image_shape)
        own = tap_shapes(student, [pair[1] for pair in self.pairs], image_shape)
        self.priors = nn.ModuleList()
        for one, other in self.pairs:
            self.teacher.request(one)
            self.student.request(other)
            self.priors.append(Prior(own[other], theirs[one], width, grid))

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        for prior, (theirs, own) in zip(self.priors, self.pairs, strict=True):
            student, teacher = known[f"student.{own}"], known[f"teacher.{theirs}"]
            assert isinstance(student, Tensor)
            assert isinstance(teacher, Tensor)
            student, teacher = match_size(student, teacher)
            known.add(f"student.{own}.decoded", prior(student, teacher, batch, own))
            known.add(f"teacher.{theirs}.matched", teacher)
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        for theirs, own in self.pairs:
            yield Transfer(f"teacher.{theirs}.matched", f"student.{own}.decoded", MSE(), weight=self.weight)


class Prior(nn.Module):
    """Tokens of a student's map, some of them the teacher's, decoded to the teacher's map.

    Args:
        student: (C, H, W) of the student's map.
        teacher: (C, H, W) of the teacher's; the larger map has been brought to the smaller one's size.
        width: of the tokens.
        grid: the most tokens along a side.
    """

    def __init__(self, student: tuple[int, ...], teacher: tuple[int, ...], width: int, grid: int) -> None:
        super().__init__()
        height, breadth = (min(sides) for sides in zip(student[1:], teacher[1:], strict=True))
        self.patch = patch_side(height, breadth, grid)
        tokens = height * breadth // self.patch**2
        self.embeddings = nn.ModuleList(
            nn.Conv2d(shape[0], width, self.patch, stride=self.patch) for shape in (student, teacher)
        )
        self.positions = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.encoders = nn.ModuleList(block(width) for _ in range(2))
        self.decoder = block(width)
        self.restore = nn.Conv2d(width, teacher[0] * self.patch**2, 1)
        self.cka: Tensor
        self.register_buffer("cka", torch.tensor(0.5))

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch, stage: str) -> Tensor:
        """The decoded map, of the teacher's shape; in training mode the running CKA moves first."""
        if self.training:
            self.follow(batch.all_rows(student.detach()), batch.all_rows(teacher))
        # In float32: on a CPU the backward pass in bfloat16 takes many times longer, and the tokens are few.
        with torch.autocast(batch.device.type, enabled=False):
            return self.decoded(widen(student), widen(teacher), batch, stage)

    def decoded(self, student: Tensor, teacher: Tensor, batch: Batch, stage: str) -> Tensor:
        """The map that the mixed tokens decode to."""
        own, theirs = (
            encode(embed(x).flatten(2).mT + self.positions)
            for embed, encode, x in zip(self.embeddings, self.encoders, (student, teacher), strict=True)
        )
        draws = torch.rand(batch.whole, len(self.positions), generator=batch.rng(f"prior {stage}"), device=batch.device)
        mixed = torch.where(prior_mask(batch.own(draws), 1 - self.cka)[..., None], theirs, own)
        height, breadth = (side // self.patch for side in teacher.shape[-2:])
        decoded = self.decoder(mixed).mT.unflatten(2, (height, breadth))
        return F.pixel_shuffle(self.restore(decoded), self.patch)

    @torch.no_grad()
    def follow(self, student: Tensor, teacher: Tensor) -> None:
        """Move the running CKA by this batch's."""
        self.cka.lerp_(linear_cka(student, teacher).to(self.cka), 0.1)


def block(width: int) -> nn.Module:
    """A transformer block without dropout."""
    return nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)


def patch_side(height: int, width: int, grid: int) -> int:
    """The smallest patch that divides a map and leaves at most `grid` tokens a side.

    >>> [patch_side(side, side, 8) for side in (32, 16, 8, 7, 14, 56)]
    [4, 2, 1, 1, 2, 7]
    """
    common = gcd(height, width)
    fitting = (side for side in range(1, common + 1) if common % side == 0 and max(height, width) <= grid * side)
    return next(fitting, common)


def prior_mask(draws: Tensor, share: Tensor) -> Tensor:
    """(B, N), true for the share of each row with the smallest draws.

    >>> prior_mask(torch.rand(2, 100), torch.tensor(0.3)).sum(1).tolist()
    [30, 30]
    """
    return draws.argsort(1).argsort(1) < (share * draws.shape[1]).round()
