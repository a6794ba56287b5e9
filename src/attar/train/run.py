"""One training in one folder: prepared before anything is written, fitted, measured, and never done twice."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from attar.data import DeviceLoader, ImageSet, Splits, eval_batches
from attar.deploy import save
from attar.files import write_json
from attar.measure import Cost, Scores, cost, evaluate
from attar.methods import Method
from attar.recipe import Recipe
from attar.train.loop import Places, fit
from attar.train.progress import Progress
from attar.train.runtime import Runtime, choose, find_device

EVAL_BATCH = 250


@dataclass(frozen=True)
class Result:
    """What came out of one training.

    Attributes:
        name: which network it is ("student", "teacher", "alone", "peer1", ...).
        scores: on the test set.
        cost: parameters, MACs, latency and file size.
    """

    name: str
    scores: Scores
    cost: Cost

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Result:
        return cls(tree["name"], Scores(**tree["scores"]), Cost(**tree["cost"]))


@dataclass
class Training:
    """A training that is ready to start: everything that could be wrong with its input has been found.

    Attributes:
        method: what is trained.
        splits: the images.
        recipe: how.
        folder: where.
        title: what the progress lines call it.
        teacher: the network the student's agreement is measured against.
    """

    method: Method
    splits: Splits
    recipe: Recipe
    folder: Path
    title: str
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        self.device = find_device(self.recipe.device)
        self.loader = DeviceLoader(
            self.splits.train,
            self.recipe.batch_size,
            augment=self.splits.augment,
            seed=self.recipe.seed,
            device=self.device,
            epochs=self.recipe.epochs,
            channels_last=True,
        )

    @property
    def finished(self) -> bool:
        return (self.folder / "scores.json").exists()

    def runtime(self) -> Runtime:
        """The precision of the recipe, found by trying where it says auto."""
        self.method.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return choose(self.method, next(iter(self.loader.epoch(0))), self.device, self.recipe.precision)

    def run(self, console: Console, runtime: Runtime) -> list[Result]:
        """Train, deploy and measure; what an earlier process did already is not done again."""
        if not self.finished:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.method.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            steps = len(self.loader)
            with Progress(console, self.title, self.recipe.epochs, steps, self.loader.batch_size) as progress:
                fit(self.method, self.loader, self.splits.val, self.recipe, runtime, Places(self.folder), progress)
            self._deploy_and_measure()
        tree = json.loads((self.folder / "scores.json").read_text(encoding="utf-8"))
        return [Result.from_json(entry) for entry in tree["results"]]

    def _deploy_and_measure(self) -> None:
        """Write every deployed network and, last of all, scores.json, which marks the run as finished."""
        networks = {"student": self.method.deployed(), **self.method.also_deployed()}
        results = [measure(name, net, self.splits.test, self.device, self.teacher) for name, net in networks.items()]
        for result, net in zip(results, networks.values(), strict=True):
            save(net, self.folder / f"{result.name}.safetensors", **card(self.splits.test, result, self.recipe))
        write_json(self.folder / "scores.json", {"results": [result.to_json() for result in results]})


def measure(name: str, net: nn.Module, images: ImageSet, device: torch.device, teacher: nn.Module | None) -> Result:
    """Scores on a set and cost, in float32 as the network is deployed."""
    net.to(device).eval()
    against = teacher.to(device).eval() if teacher is not None and teacher is not net else None
    scores = evaluate(net, eval_batches(images, EVAL_BATCH, device), teacher=against)
    return Result(name, scores, cost(net, images.image_shape))


def card(images: ImageSet, result: Result, recipe: Recipe) -> dict[str, Any]:
    """What the JSON beside deployed weights says besides the network's spec."""
    return {
        "classes": list(images.classes),
        "image_shape": list(images.image_shape),
        "mean": list(images.mean),
        "std": list(images.std),
        "data": recipe.data.name,
        "data_options": recipe.data.options,
        "seed": recipe.seed,
        "method": recipe.method.name,
        "teacher": recipe.teacher.name or None,
        "test": {key: value for key, value in asdict(result.scores).items() if key != "per_class"},
    }
