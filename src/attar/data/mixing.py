"""Two images made into one: mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899), for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from attar.batch import Address
from attar.errors import AttarError


def draw_mixing(count: int, alpha: float, address: Address) -> tuple[Tensor, Tensor]:
    """Each image's partner and its own share, for a set of N images in one epoch, whatever the batches are.

    Args:
        count: N.
        alpha: lambda is Beta(alpha, alpha); mixup's paper takes 0.2 on ImageNet and 1 on CIFAR, CutMix's 1.
        address: the seed and the epoch.

    Returns:
        partners (N,), the number of another image, and shares (N,), float32 in 0..1.

    Raises:
        AttarError: alpha is not above 0.

    >>> partners, shares = draw_mixing(4, alpha=1.0, address=Address(seed=1))
    >>> sorted(partners.tolist())
    [0, 1, 2, 3]
    """
    if not alpha > 0:
        raise AttarError(f"alpha must be above 0, got {alpha}; leave mixing out instead")
    partners = torch.randperm(count, generator=address.generator("mix/partner"))
    generator = address.generator("mix/share")
    # Beta from two gammas, because torch's own sampler takes no generator.
    one, other = (_gamma(alpha, count, generator) for _ in range(2))
    return partners, (one / (one + other)).nan_to_num(0.5).float()


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


def _gamma(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    return torch._standard_gamma(torch.full((count,), alpha, dtype=torch.float64), generator=generator)
