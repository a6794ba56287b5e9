"""Runs that are killed and whose inputs change before they are resumed: refused, until the inputs are back."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from attar.models import create_model
from commands import kill, run, same, start, timed
from folders import called

RECIPE = [
    *("teacher=resnet14", "student=resnet8", "alone=skip", "batch_size=8", "precision=float32", "epochs=6"),
    *("teacher.precision=float32", "data.image_size=8", "checkpoint_minutes=0.002"),
]
COLUMNS = ("change", "killed in the middle of training", "refused", "same bits with the inputs put back")


def rows(trials: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """A row a change."""
    photos, weights = scratch / "photos", scratch / "teacher.pth"
    for number in range(60):
        (photos / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (4 * number,) * 3).save(photos / "ab"[number % 2] / f"{number}.png")
    new_weights(weights, 1)
    recipe = ["distill", *RECIPE, f"data={photos}", f"teacher.weights={weights}"]
    whole = scratch / "whole"
    process = start([*recipe, f"out={whole}"])
    seconds = timed(process, whole / "checkpoint.pt", whole / "checkpoint.pt")
    draw = random.Random(seed)
    return [row(name, recipe, seconds, trials, draw, scratch) for name in CHANGES]


def row(
    name: str, recipe: list[str], seconds: float, trials: int, draw: random.Random, scratch: Path
) -> dict[str, Any]:
    """One change, made after each kill and taken back."""
    within = refused = identical = 0
    for trial in range(trials):
        folder, kept = scratch / f"{name}{trial}", scratch / "kept"
        process = start([*recipe, f"out={folder}"])
        within += kill(process, folder / "checkpoint.pt", draw.uniform(0, 0.5) * seconds)
        shutil.copytree(scratch / "photos", kept / "photos")
        shutil.copy(scratch / "teacher.pth", kept)
        CHANGES[name](scratch, draw)
        status, text = called(["resume", str(folder)])
        refused += status == 2 and "began with other" in text
        shutil.rmtree(scratch / "photos")
        for held in kept.iterdir():
            held.replace(scratch / held.name)
        run(["resume", str(folder)])
        identical += same(folder, scratch / "whole")
        shutil.rmtree(kept)
    numbers = (name, within, f"{refused} / {trials}", f"{identical} / {trials}")
    return {**dict(zip(COLUMNS, numbers, strict=True)), "passed": refused == identical == trials}


def new_weights(file: Path, seed: int) -> None:
    """Weights of a teacher that nobody trained."""
    torch.manual_seed(seed)
    torch.save(create_model("resnet14", num_classes=2, in_channels=3, image_size=8).state_dict(), file)


def an_image(scratch: Path, draw: random.Random) -> Path:
    return draw.choice(sorted((scratch / "photos").rglob("*.png")))


def moved(scratch: Path, draw: random.Random) -> None:
    file = an_image(scratch, draw)
    file.replace(file.parents[1] / ("b" if file.parent.name == "a" else "a") / file.name)


CHANGES: dict[str, Callable[[Path, random.Random], object]] = {
    "other teacher weights": lambda scratch, draw: new_weights(scratch / "teacher.pth", draw.randrange(2, 1000)),
    "an image deleted": lambda scratch, draw: an_image(scratch, draw).unlink(),
    "an image moved to another class": moved,
    "an image changed": lambda scratch, draw: Image.new("RGB", (8, 8), (250, 0, 0)).save(an_image(scratch, draw)),
}
