"""A network as two files: weights in safetensors, and a small JSON beside them from which it is rebuilt."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import nn

from attar.errors import AttarError
from attar.files import write_bytes, write_json
from attar.models import build, load_weights
from attar.plugins import naming_imports
from attar.records import damaged, read_json, shortened

STUDENT = "student.safetensors"
RESTORE = "restore it from the run that wrote it"


def _all(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a value is a list of such entries, and not empty."""
    return lambda value: isinstance(value, list) and bool(value) and all(map(kind, value))


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**20


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _scores(value: Any) -> bool:
    """Whether a value is an object of scores: numbers, or null for what was not measured."""
    if not isinstance(value, dict) or not _number(value.get("count")):
        return False
    return all(score is None or type(score) in (int, float) for score in value.values())


# What a run writes about its student, and which values it may have.
FACTS: dict[str, Callable[[Any], bool]] = {
    "classes": lambda value: isinstance(value, list) and all(map(_text, value)),
    "input_shape": _all(_whole),
    "outputs": _whole,
    "task": _text,
    "task_options": lambda value: isinstance(value, dict),
    "image_shape": lambda value: _all(_whole)(value) and len(value) == 3,
    "mean": _all(_number),
    "std": _all(lambda value: _number(value) and value > 0),
    "data": _text,
    "data_title": _text,
    "data_options": lambda value: isinstance(value, dict),
    "method": lambda value: value is None or _text(value),
    "teacher": lambda value: value is None or _text(value),
    "seed": lambda value: type(value) is int,
    "test": _scores,
}


# Which of them there must be; of samples that are no images others.
IMAGE_FACTS = ("data", "classes", "image_shape", "mean", "std")
SAMPLE_FACTS = ("data", "classes", "input_shape", "outputs", "task")


def save(net: nn.Module, path: str | Path, **facts: Any) -> Path:
    """Write `path` (.safetensors) and the JSON of the same name.

    Args:
        net: a network with a `spec` (the zoo's have one); without one, only plain torch can load the file again.
        path: where the weights go.
        facts: further entries of the JSON (classes, normalisation, scores).

    Returns:
        The path of the weights.
    """
    path = Path(path)
    net = getattr(net, "_orig_mod", net)  # torch.compile's wrapper would change every key
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in net.state_dict().items()
    }
    # As bytes: a full disk is an OSError then, which the library's own writing hides.
    write_bytes(path, to_bytes(state))
    write_json(path.with_suffix(".json"), {"attar": 1, "spec": getattr(net, "spec", None), **facts})
    return path


def load_card(path: str | Path) -> dict[str, Any]:
    """The JSON beside saved weights.

    Raises:
        AttarError: it is missing or is not one of ours.
    """
    file = Path(path).with_suffix(".json")
    if not file.exists():
        raise AttarError(f"{file} is missing; it is needed to rebuild the network of {Path(path).name}")
    card = read_json(file, RESTORE)
    if not isinstance(card, dict) or not isinstance(card.get("spec"), dict):
        raise AttarError(f"{file} names no network (no 'spec'); load the weights with plain torch")
    return card


def load_facts(path: str | Path) -> dict[str, Any]:
    """The JSON beside the student of a run: with its classes, its data, and what its images or other samples are.

    Raises:
        AttarError: it is missing or damaged, or no run wrote it.
    """
    card, file = load_card(path), Path(path).with_suffix(".json")
    samples = "input_shape" in card
    if missing := [fact for fact in (SAMPLE_FACTS if samples else IMAGE_FACTS) if fact not in card]:
        raise AttarError(f"{file} has no {missing[0]}; it was not written by a run")
    for name, holds in FACTS.items():
        if name in card and not holds(card[name]):
            raise damaged(file, f"{name} is {shortened(card[name])}", RESTORE)
    if samples:
        return card
    # Networks that put out features have none.
    if not card["classes"] and card.get("task") != "features":
        raise damaged(file, "classes is []", RESTORE)
    channels = card["image_shape"][0]
    if len(card["mean"]) != channels or len(card["std"]) != channels:
        raise damaged(file, f"mean and std are not of {channels} channels", RESTORE)
    return card


def load(path: str | Path) -> nn.Module:
    """The network of a saved student, in eval mode.

    Args:
        path: a .safetensors file, or a run's folder, whose student is meant; of several seeds the first one's.

    Raises:
        AttarError: a file is missing, damaged or does not fit.
    """
    file = student_file(Path(path))
    if not file.is_file():
        raise AttarError(f"{file} does not exist; give a run's folder or a .safetensors file")
    with naming_imports(file):
        net = build(load_card(file)["spec"])
    load_weights(net, file)
    return net.eval()


def student_file(path: Path) -> Path:
    """The weights that a path means: a file itself, of a run's folder the student; of several seeds the first one's."""
    if not path.is_dir():
        return path
    if (path / STUDENT).is_file():
        return path / STUDENT
    return next(iter(students_of_seeds(path)), path / STUDENT)


def students_of_seeds(folder: Path) -> list[Path]:
    """The students of a run with a folder for each seed, in the order of the seeds."""
    seeds = [place for place in folder.glob("seed*") if (place / STUDENT).is_file() and place.name[4:].isdigit()]
    return [place / STUDENT for place in sorted(seeds, key=lambda place: int(place.name[4:]))]
