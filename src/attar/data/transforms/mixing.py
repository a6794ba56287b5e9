"""Two images made into one: mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899), for a whole batch at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from attar.batch import Address
from attar.data.transforms.augment import Choices
from attar.errors import AttarError


@dataclass(frozen=True)
class Mixing:
    """How training images are mixed with each other; by default not at all. With both, each image draws which.

    >>> bool(Mixing()), bool(Mixing(mixup=0.2))
    (False, True)
    """

    mixup: float = 0.0
    """An image's own share of the blend is drawn from Beta(alpha, alpha) with this alpha; 0: no mixup. The paper takes
    0.2 on ImageNet and 1 on CIFAR."""
    cutmix: float = 0.0
    """As `mixup`, for the share of the area that stays its own; 0: no CutMix. The paper takes 1."""

    def __post_init__(self) -> None:
        for key in (f.name for f in fields(self)):
            alpha = getattr(self, key)
            if not isinstance(alpha, int | float) or not 0 <= alpha < math.inf:
                raise AttarError(f"{key} is the alpha of Beta(alpha, alpha), 0 or above, got {alpha!r}")

    def __bool__(self) -> bool:
        return bool(self.mixup or self.cutmix)

    def draw(self, count: int, height: int, width: int, address: Address, prefix: str = "") -> Mixes:
        """The random choices for every image of a set in one epoch: entry i belongs to image i, whatever the batches.

        Args:
            count: how many images there are.
            height: their height, in pixels.
            width: their width, in pixels.
            address: the seed and the epoch.
            prefix: of the purposes, for a set with choices of its own.
        """

        def stream(purpose: str) -> torch.Generator:
            return address.generator(f"{prefix}mix/{purpose}")

        cut = torch.full((count,), bool(self.cutmix))
        if self.mixup and self.cutmix:
            cut = torch.rand(count, generator=stream("which")) < 0.5
        alpha = torch.where(cut, float(self.cutmix), float(self.mixup)).double()
        # Beta from two gammas, because torch's own sampler takes no generator.
        generator = stream("share")
        one, other = (torch._standard_gamma(alpha, generator=generator) for _ in range(2))
        place = stream("centre")
        centre = torch.stack([torch.randint(side, (count,), generator=place) for side in (height, width)], 1)
        return Mixes((one / (one + other)).nan_to_num(0.5).float(), cut, centre)

    def __call__(self, images: Tensor, partners: Tensor, mixes: Mixes) -> tuple[Tensor, Tensor]:
        """Each image mixed with its partner by its own choices.

        Args:
            images: (B, C, H, W), normalised.
            partners: (B, C, H, W).
            mixes: the choices for these B images.

        Returns:
            the mixed images, and (B,) the share of each that is its own, as its label's is to be.
        """
        if not self.cutmix:
            return mixup(images, partners, mixes.share), mixes.share
        pasted, kept = cutmix(images, partners, mixes.share, mixes.centre)
        if not self.mixup:
            return pasted, kept
        blended = mixup(images, partners, mixes.share)
        return torch.where(mixes.cut[:, None, None, None], pasted, blended), torch.where(mixes.cut, kept, mixes.share)


@dataclass(frozen=True)
class Mixes(Choices):
    """How N images are mixed.

    Attributes:
        share: (N,) lambda, in 0..1: the image's own part.
        cut: (N,) whether it is mixed by CutMix.
        centre: (N, 2) row and column of the centre of CutMix's rectangle, in pixels.
    """

    share: Tensor
    cut: Tensor
    centre: Tensor


def mixed_labels(labels: Tensor, partners: Tensor, shares: Tensor, classes: int) -> Tensor:
    """The probabilities that an edge from the labels learns: shares of the own class, the rest of the partner's.

    Args:
        labels: (B,) class numbers, -1 where there is none.
        partners: (B,) the partners' class numbers; they have one where the image itself has.
        shares: (B,) each image's own share, in 0..1.
        classes: K.

    Returns:
        (B, K), of the shares' type; a row without a label is 0 throughout.

    >>> mixed_labels(torch.tensor([0, -1]), torch.tensor([2, -1]), torch.tensor([0.75, 0.5]), classes=3)
    tensor([[0.7500, 0.0000, 0.2500],
            [0.0000, 0.0000, 0.0000]])
    """
    mixed = shares.new_zeros(len(labels), classes)
    for classes_of, part in ((labels, shares), (partners, 1 - shares)):
        mixed.scatter_add_(1, classes_of.clamp_min(0)[:, None], (part * (classes_of >= 0))[:, None])
    return mixed


def mixup(images: Tensor, partners: Tensor, shares: Tensor) -> Tensor:
    """shares * images + (1 - shares) * partners, image by image.

    The labels go with it: shares * loss(labels) + (1 - shares) * loss(labels of the partners).

    Args:
        images: (B, C, H, W), normalised.
        partners: (B, C, H, W), the images they are mixed with.
        shares: (B,) each image's own share, in 0..1.

    >>> mixup(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.tensor([0.75])).item()
    0.75
    """
    _check(images, partners, shares)
    return torch.lerp(partners, images, shares.to(images.dtype)[:, None, None, None])


def cutmix(images: Tensor, partners: Tensor, shares: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Images with a rectangle of their partners, cut at the border.

    Args:
        images: (B, C, H, W), normalised.
        partners: (B, C, H, W), the images that the rectangles come from.
        shares: (B,) lambda: the rectangle has the images' shape and 1 - lambda of their area before it is cut.
        centres: (B, 2) row and column of each rectangle's centre, in pixels.

    Returns:
        the images, and (B,) the share each has kept after cutting at the border, which its labels' loss is to have.

    >>> white, black = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    >>> mixed, kept = cutmix(white, black, torch.tensor([0.75]), torch.tensor([[2, 2]]))
    >>> mixed.mean().item(), kept.item()
    (0.75, 0.75)
    """
    _check(images, partners, shares)
    inside = []
    for side, length in enumerate(images.shape[2:]):
        # The rectangle's side in whole pixels, rounded as in the authors' code.
        extent = (length * (1 - shares).clamp_min(0).sqrt()).long()
        place = torch.arange(length, device=images.device)
        start = centres[:, side] - extent // 2
        end = centres[:, side] + extent // 2
        inside.append((place >= start[:, None]) & (place < end[:, None]))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return torch.where(hole[:, None], partners, images), 1 - hole.float().mean((1, 2))


def _check(images: Tensor, partners: Tensor, shares: Tensor) -> None:
    if images.shape != partners.shape or shares.shape != images.shape[:1]:
        raise AttarError(
            f"mixing needs a partner and a share for each image: images are {tuple(images.shape)}, "
            f"partners {tuple(partners.shape)}, shares {tuple(shares.shape)}"
        )
