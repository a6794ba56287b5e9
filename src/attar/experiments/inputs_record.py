"""inputs.json: fingerprints of the data and the given weights that a run began with, compared when it is resumed."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from attar.errors import AttarError
from attar.experiments.build import Sets
from attar.files import write_json
from attar.records import read_json

RECORD = "inputs.json"

Fingerprints = dict[str, str]


def data_fingerprints(splits: Sets, samples: str = "images") -> Fingerprints:
    """The fingerprint of each set, by its name in messages."""
    sets = {"training": splits.train, "validation": splits.val, "test": splits.test, "unlabelled": splits.unlabelled}
    return {f"{role} {samples}": one.fingerprint for role, one in sets.items() if one is not None}


def read_inputs(folder: Path) -> Fingerprints | None:
    """What a run began with; None where the record is missing or damaged."""
    try:
        held = read_json(folder / RECORD, "")
    except AttarError:
        return None
    return {str(key): str(value) for key, value in held.items()} if isinstance(held, dict) else None


def write_inputs(folder: Path, inputs: Fingerprints) -> None:
    """Write what a run begins with."""
    write_json(folder / RECORD, inputs)


def changed_inputs(folder: Path, inputs: Fingerprints) -> list[str]:
    """The names of inputs that are not those the run in a folder began with; none where nothing is recorded."""
    began = read_inputs(folder)
    if began is None:
        return []
    return [name for name in {**began, **inputs} if began.get(name) != inputs.get(name)]


def check_inputs(folder: Path, inputs: Fingerprints) -> None:
    """Refuse to go on with other inputs than a run began with.

    Raises:
        AttarError: an input has changed.
    """
    if changed := changed_inputs(folder, inputs):
        raise AttarError(
            f"{folder} began with other {', '.join(changed)}; put them back, or, where the change is meant, "
            f"`attar resume {quote(str(folder))} --accept-changes`"
        )
