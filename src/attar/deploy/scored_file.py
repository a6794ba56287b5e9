"""A saved network of any kind, ready to be scored: a run, its weights, or an exported file with the facts inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attar.deploy.formats import FORMATS, Format
from attar.deploy.package import load, load_facts, student_file
from attar.errors import AttarError
from attar.extras import require
from attar.sizes import shortest


@dataclass(frozen=True)
class ScoredFile:
    """A network and what is known about it.

    Attributes:
        net: called with inputs as the card's data are read, normalised images for one.
        card: what the JSON beside a student's weights holds; of an exported file what its metadata say.
        path: what was opened.
        run: where the run's other files may lie.
    """

    net: nn.Module
    card: dict[str, Any]
    path: Path
    run: Path


class FromPixels(nn.Module):
    """An exported network that normalises by itself, called with normalised images like any other.

    Args:
        net: takes bytes.
        prepare: from normalised images to the bytes they were made of.
    """

    def __init__(self, net: nn.Module, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.prepare = net, prepare

    def forward(self, images: Tensor) -> Tensor:
        return self.net(self.prepare(images))


def open_scored(path: str | Path) -> ScoredFile:
    """The network of a run's folder, of a .safetensors file with its JSON, or of an exported file.

    Raises:
        AttarError: it is missing or damaged, or says nothing about its classes and images.
    """
    path = Path(path)
    if (kind := format_of(path)) is not None and kind.facts is not None:
        return _exported(path, kind)
    if path.suffix in (".pth", ".pt", ".bin"):
        raise AttarError(f"{path} holds weights and no network; say which: --network NAME (attar list networks)")
    if path.is_file() and path.suffix != ".safetensors":
        raise AttarError(f"{path} is no network: give a run's folder, a .safetensors file or an exported one")
    file = student_file(path)
    net = load(file)
    return ScoredFile(net, load_facts(file), file, path)


def format_of(path: Path) -> Format | None:
    """The format of an exported file by its suffix, the longest that fits: one may end in another."""
    if path.is_dir():
        return None
    fitting = [FORMATS[name] for name in FORMATS if path.name.endswith(FORMATS[name].suffix)]
    return max(fitting, key=lambda kind: len(kind.suffix), default=None)


def _exported(path: Path, kind: Format) -> ScoredFile:
    from attar.models.graphs.traced import Deployed

    if not path.is_file():
        raise AttarError(f"{path} does not exist; `attar export RUN {kind.name}` writes one")
    for package in kind.packages:
        require(package, kind.name, kind.extra)
    assert kind.facts is not None
    assert kind.open is not None
    facts, run = kind.facts(path), path.absolute().parent.parent
    card, net = _card(facts, path, run), kind.open(path)
    if facts.get("input", "").startswith("uint8"):
        net = FromPixels(net, Deployed(nn.Identity(), card["mean"], card["std"], bake=True).inputs)
    return ScoredFile(net, card, path, run)


def _card(facts: dict[str, str], path: Path, run: Path) -> dict[str, Any]:
    """The facts in a file as the JSON beside weights has them; of other samples than images, those of the run.

    Raises:
        AttarError: there are none, or they are damaged.
    """
    if "classes" not in facts:
        beside = student_file(run).with_suffix(".json")
        if not beside.is_file():
            raise AttarError(
                f"{path} names no classes in its metadata, and lies in no run's export folder; give the run's folder"
            )
        return load_facts(beside)
    try:
        needed = ("classes", "mean", "std", "image_size", "read_size")
        classes, mean, std, size, read = (json.loads(facts[key]) for key in needed)
        options = {} if shortest(read) == shortest(size) else {"resize_size": read}
        return {
            "classes": classes,
            # Files of older versions name no task; of their networks those of features alone have no classes.
            "task": facts.get("task") or ("" if classes else "features"),
            "task_options": dict(json.loads(facts.get("task_options", "{}"))),
            "image_shape": [len(mean), *size],
            "mean": mean,
            "std": std,
            "data": facts.get("data", ""),
            "data_options": options,
        }
    except (KeyError, ValueError, TypeError):
        raise AttarError(f"{path} has damaged metadata; export the run again") from None
