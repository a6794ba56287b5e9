"""The baseline (the student without a teacher) read from an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attar.deploy import load_card
from attar.errors import AttarError
from attar.profiling import Result, read_scores


def earlier_baseline(root: Path, student: str, classes: Sequence[str], seed: int) -> Result:
    """One seed's result: of the run that a distillation trained beside itself, or of a run of `attar train`.

    Args:
        root: the earlier run's folder.
        student: the network.
        classes: of the images.
        seed: of the training.

    Raises:
        AttarError: there is none, or it is of another network, seed or set of classes.
    """
    places = [root / f"seed{seed}" / "alone", root / "alone", root / f"seed{seed}", root]
    folder = next((place for place in places if (place / "scores.json").is_file()), None)
    if folder is None:
        raise AttarError(f"alone={root}: no finished run of seed {seed} there; give train, skip or a run's folder")
    card = load_card(folder / "student.safetensors")
    # A network of another library lies inside what fits it to the images.
    spec = card["spec"].get("network", card["spec"])
    wanted = {"network": student, "method": "supervised", "seed": seed}
    held = {
        "network": spec.get("name", spec.get("model")),
        "method": card.get("method"),
        "seed": card.get("seed", seed),
    }
    for what, value in wanted.items():
        if held[what] != value:
            raise AttarError(f"alone={root}: {folder} has {what} {held[what]!r}, this run {value!r}; give alone=train")
    if list(card.get("classes", ())) != list(classes):
        raise AttarError(f"alone={root}: {folder} was trained on other classes; give alone=train")
    return replace(read_scores(folder, "give alone=train, or another run")[0], name="alone")
