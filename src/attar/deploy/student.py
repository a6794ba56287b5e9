"""A student on its way to files, with the images that every file is checked on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from attar.data import ImageSet, eval_batches
from attar.deploy.parity import all_logits
from attar.models.graphs.traced import Deployed, facts


@dataclass(frozen=True)
class Student:
    """A student and the images it is checked on.

    Attributes:
        net: on the CPU, in eval mode.
        card: the JSON beside its weights; classes, image_shape, mean, std and data are needed.
        test: what every file is scored on.
        calibration: training images that the 8-bit scales are read off.
        bake: whether the graph formats take uint8 pixels and normalise them inside.
    """

    net: nn.Module
    card: dict[str, Any]
    test: ImageSet
    calibration: ImageSet
    bake: bool = False
    _made: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def deployed(self) -> Deployed:
        """The network as it stands in the graph formats."""
        return Deployed(self.net, self.card["mean"], self.card["std"], self.bake).eval()

    @cached_property
    def logits(self) -> Tensor:
        """(N, K) logits of the student in memory for every test image."""
        plain = Deployed(self.net, self.card["mean"], self.card["std"], bake=False).eval()
        return all_logits(plain, self.test, plain.inputs)

    @property
    def example(self) -> Tensor:
        """Two images as the graph formats take them."""
        twice = self.test.subset(torch.tensor([0, 0]))
        return self.deployed.inputs(next(iter(eval_batches(twice, 2))).images)

    @property
    def facts(self) -> dict[str, str]:
        """The metadata of a graph file: texts by name."""
        _, height, width = self.test.image_shape
        stored = self.test.stored_size
        return facts(self.card, self.bake, min(stored) if height == width else stored)

    def once(self, make: Callable[[Student], Any]) -> Any:
        """make(student), computed once and shared by the formats that start from it."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]
