"""A student on its way to files, with the samples that every file is checked on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.data import ImageSet, Samples, TensorSet, batches_of
from attar.deploy.parity import measured
from attar.errors import AttarError
from attar.models.graphs.traced import Deployed, DeployedByName, Traced, facts, sample_facts
from attar.sizes import shortest
from attar.tasks import Task


@dataclass(frozen=True)
class Student:
    """A student and the samples it is checked on.

    Attributes:
        net: on the CPU, in eval mode.
        card: the JSON beside its weights; of images classes, image_shape, mean, std and data are needed.
        test: what every file is scored on.
        calibration: training images that the 8-bit scales are read off; other samples calibrate nothing.
        task: what it has learnt.
        bake: whether the graph formats take uint8 pixels and normalise them inside.
        within: how many points of the primary measure eight bits may lose; None: what they lose is only reported.
        train: training images for quantisation-aware distillation.
        val: validation images, by which eight bits are chosen.
        temperature: what the graph formats divide logits by.

    Raises:
        AttarError: `bake`, and the samples are no images.
    """

    net: nn.Module
    card: dict[str, Any]
    test: Samples
    calibration: Samples
    task: Task
    bake: bool = False
    within: float | None = None
    train: Samples | None = None
    val: Samples | None = None
    temperature: float = 1.0
    _made: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.bake and not isinstance(self.test, ImageSet):
            raise AttarError("--bake is for images, whose normalisation it puts into the files; leave it out")

    def _deployed(self, bake: bool) -> Deployed:
        return Deployed(
            self.net, self.card.get("mean", [0.0]), self.card.get("std", [1.0]), bake, self.temperature
        ).eval()

    @cached_property
    def deployed(self) -> Traced:
        """The network as it stands in the graph formats."""
        if isinstance(self.test, TensorSet) and isinstance(self.test.inputs, dict):
            return DeployedByName(self.net, [*self.test.inputs]).eval()
        return self._deployed(self.bake)

    def prepared(self, inputs: Any) -> Any:
        """Inputs of the test set as the graph formats take them."""
        return self.deployed.inputs(inputs) if isinstance(self.deployed, Deployed) else inputs

    @cached_property
    def _measured(self) -> tuple[Tensor, float]:
        return measured(self.net, self.test, lambda inputs: inputs, self.task.metrics())

    @property
    def outputs(self) -> Tensor:
        """(N, ...) outputs of the student in memory for every test sample."""
        return self._measured[0]

    @property
    def score(self) -> float:
        """The primary measure of the student in memory."""
        return self._measured[1]

    @property
    def example(self) -> Inputs:
        """Two samples as the graph formats take them."""
        return self.prepared(next(iter(batches_of(self.test.subset(torch.tensor([0, 0]))))).inputs)

    @property
    def of_images(self) -> tuple[Deployed, Tensor]:
        """The network and two samples, for formats of images alone."""
        net, example = self.deployed, self.example
        assert isinstance(net, Deployed)
        assert isinstance(example, Tensor)
        return net, example

    @property
    def facts(self) -> dict[str, str]:
        """The metadata of a graph file: texts by name."""
        if not isinstance(self.test, ImageSet):
            return sample_facts(self.card, self.example, getattr(self.net, "open_sizes", None))
        found = facts(self.card, self.bake, shortest(self.test.stored_size))
        return found if self.temperature == 1 else {**found, "temperature": f"{self.temperature:.4f}"}

    def once(self, make: Callable[[Student], Any]) -> Any:
        """make(student), computed once and shared by the formats that start from it."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]
