"""From listed images, each with the name of its class, to the sets of a task: what tables and archives share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attar.data.images import Splits
from attar.data.sources.from_files import Reading
from attar.data.sources.image_tree import listed
from attar.data.sources.origins import Origin
from attar.errors import AttarError


def splits_of(
    labels: Mapping[str, Sequence[str]],
    origins: Mapping[str, Origin],
    reading: Reading,
    place: Path,
    *,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    notes: Sequence[str] = (),
) -> Splits:
    """The sets of listed images.

    Args:
        labels: the class of each image of "train" and perhaps "val" and "test"; a role without images is no role.
        origins: where the images of those roles lie.
        reading: how they are read.
        place: the file or folder that lists them.
        name: what the sets are called; None: the name of `place` without its suffix.
        classes: the name of every class in order; None: those of the training images, numbers in their order first.
        notes: what the user should know already.

    Raises:
        AttarError: nothing to train on, fewer than two classes, a class that is not trained on, or as
            `Reading.splits`.
    """
    known = set(labels.get("train", ()))
    if not known:
        raise AttarError(f"{place} has no training images; give some of them the split train, or name no splits")
    names = sorted(known, key=_as_number) if classes is None else list(classes)
    if len(names) < 2:
        raise AttarError(f"{place} has 1 class, {names[0]!r}; expected at least 2")
    number = {label: position for position, label in enumerate(names)}
    sets = {}
    notes = list(notes)
    for role, given in labels.items():
        if strange := next((label for label in given if label not in known), None):
            raise AttarError(f"{place}: class {strange!r} has {role} images but none to train on")
        if given:
            numbers = [number[label] for label in given]
            sets[role] = reading.files(origins[role], numbers, tuple(names), name or place.stem)
            if missing := sorted(known - set(given)):
                notes.append(f"classes without {role} images: {listed(missing)}")
    return reading.splits(sets, notes)


def _as_number(label: str) -> tuple[int, str]:
    """Classes that are numbers in their order, then names."""
    return (int(label), "") if label.isdecimal() else (2**63, label)
