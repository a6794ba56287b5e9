"""Who is mixed with whom: neighbours in an epoch's order, wherever the batches end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attar.data.transforms.mixing import Mixes, Mixing, mixed_labels


def neighbours(order: Tensor) -> Tensor:
    """The partner of each image of an order: places 0 and 1 are a pair, 2 and 3, ...

    The last of an odd number has the one before it. So pairs are as random as the order is, and follow from nothing
    else: neither from the size of the batches nor from how many processes share them.

    >>> neighbours(torch.tensor([5, 8, 2, 9, 4])).tolist()
    [8, 5, 9, 2, 9]
    """
    place = torch.arange(len(order)) ^ 1
    if len(order) % 2:
        place[-1] = max(len(order) - 2, 0)
    return order[place]


@dataclass(frozen=True)
class Reading:
    """The images that one step needs.

    Attributes:
        numbers: (R,) of the step's own, and around them of the few partners that belong to other steps.
        own: where the step's own lie among them.
        partners: (B,) where the partner of each of its own lies; None: nothing is mixed.
    """

    numbers: Tensor
    own: slice
    partners: Tensor | None


def reading(own: Tensor, partners: Tensor, labelled: int) -> Reading:
    """What a step reads for its own images (B,) and their partners (B,), all given by number.

    Numbers from `labelled` on are of images without labels, which stay behind the others.

    >>> reading(torch.tensor([8, 2, 9]), torch.tensor([5, 9, 2]), labelled=10)
    Reading(numbers=tensor([5, 8, 2, 9]), own=slice(1, 4, None), partners=tensor([0, 3, 2]))
    """
    missing = partners[~torch.isin(partners, own)].unique()
    before, after = missing[missing < labelled], missing[missing >= labelled]
    numbers = torch.cat([before, own, after])
    ascending, place = numbers.sort()
    where = place[torch.searchsorted(ascending, partners)]
    return Reading(numbers, slice(len(before), len(before) + len(own)), where)


class Mixer:
    """Mixes the batches of one epoch.

    Args:
        mixing: how.
        mixes: the choices for each image, in the epoch's order.
        labels: (2, N) each image's own class and its partner's, in the epoch's order.
        classes: how many there are.
        readings: of the steps to come, in their order.
    """

    def __init__(self, mixing: Mixing, mixes: Mixes, labels: Tensor, classes: int, readings: list[Reading]) -> None:
        self.mixing, self.mixes, self.labels, self.classes = mixing, mixes, labels, classes
        partners = [one.partners for one in readings if one.partners is not None]
        # On the device at once, so that a step waits for nothing.
        self._partners = iter(torch.cat(partners).to(labels.device).split([len(one) for one in partners]))

    def __call__(self, views: dict[str, Tensor], own: slice, span: slice) -> tuple[dict[str, Tensor], Tensor]:
        """The next step's images, every view mixed alike, and their labels (B, K).

        Args:
            views: the images (R, C, H, W) that the step has read, varied and normalised, by view.
            own: where its own lie among them.
            span: where its own lie in the epoch's order.
        """
        partners, mixes = next(self._partners), self.mixes[span]
        mixed = {}
        for name, images in views.items():
            # Not index_select, which would change the memory format.
            mixed[name], shares = self.mixing(images[own], images[partners], mixes)
        labels, others = self.labels[:, span]
        return mixed, mixed_labels(labels, others, shares, self.classes)
