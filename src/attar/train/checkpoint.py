"""What a run needs to go on exactly where it stopped."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from attar.errors import AttarError
from attar.files import write_atomically

VERSION = 1


@dataclass
class Checkpoint:
    """The state of a training: plain tensors, numbers and names, nothing that runs when it is loaded.

    Attributes:
        method: state of everything that learns.
        optimiser: the optimiser's state.
        epoch: the epoch to go on in, from 0.
        step: the step within it.
        tally: sums of the unfinished epoch.
        ema: the averaged state, where there is one.
        best: the best validation accuracy so far and the weights that reached it.
        metrics: one record per finished epoch.
    """

    method: dict[str, Any]
    optimiser: dict[str, Any]
    epoch: int = 0
    step: int = 0
    tally: dict[str, Any] = field(default_factory=dict)
    ema: dict[str, Any] | None = None
    best: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    version: int = VERSION


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically; the checkpoint before stays beside it in case the disk damages this one."""
    if path.exists():
        os.replace(path, _previous(path))
    write_atomically(path, lambda temporary: torch.save(vars(checkpoint), temporary))


def restore(path: Path) -> tuple[Checkpoint | None, str]:
    """The newest readable checkpoint, or None, and a line on what was found.

    Raises:
        AttarError: there are checkpoints but none can be read.
    """
    found = [file for file in (path, _previous(path)) if file.exists()]
    for file in found:
        try:
            state = torch.load(file, weights_only=True, map_location="cpu")
            checkpoint = Checkpoint(**state)
        except Exception:  # a damaged file fails in many ways; the one before it is tried
            continue
        if checkpoint.version != VERSION:
            raise AttarError(f"{file} was written by another version of attar ({checkpoint.version}, not {VERSION})")
        note = "" if file == path else f"{path.name} is damaged; going on from the checkpoint before it"
        return checkpoint, note
    if found:
        raise AttarError(f"{path} is damaged and so is the checkpoint before it; delete both to start again")
    return None, ""


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")
