"""Checkpoints: the state that a run needs to resume exactly, with a digest that shows damage."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from attar.errors import AttarError
from attar.files import write_atomically

VERSION = 2
# The last line of a checkpoint; torch.load reads over it.
SEAL = b"\nattar checkpoint, blake2b "
DIGEST_BYTES = 32
SEAL_BYTES = len(SEAL) + 2 * DIGEST_BYTES + 1
CHUNK_BYTES = 1 << 20


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
    running: dict[str, Any] = field(default_factory=dict)
    ema: dict[str, Any] | None = None
    best: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    version: int = VERSION


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically; the checkpoint before stays beside it in case the disk damages this one.

    Raises:
        AttarError: the disk is full or cannot be written; the checkpoints of before are as they were.
    """

    def write(temporary: Path) -> None:
        try:
            torch.save(vars(checkpoint), temporary)
        except RuntimeError as error:  # torch's own writer drops the system's message
            raise OSError(None, "the disk is full or cannot be written", str(temporary)) from error
        with temporary.open("ab") as file:
            file.write(_seal(temporary, temporary.stat().st_size))

    write_atomically(path, write, keep=_previous(path))


def restore(path: Path) -> tuple[Checkpoint | None, str]:
    """The newest whole checkpoint, or None, and a line on what was found where that was not the last one.

    A damaged one is set aside as checkpoint.damaged.pt, so that it never takes the place of a whole one.

    Raises:
        AttarError: there are checkpoints but none can be read, or another version of attar wrote them.
    """
    found = [file for file in (path, _previous(path)) if file.exists()]
    for file in found:
        if not is_whole(file):
            continue
        if file == path:
            return _read(file), ""
        if not path.exists():
            return _read(file), f"the last process died while it replaced {path.name}; nothing is lost"
        os.replace(path, path.with_name(f"{path.stem}.damaged{path.suffix}"))
        return _read(file), f"{path.name} is damaged; going on from the checkpoint before it"
    if found:
        raise AttarError(
            f"{path} is damaged and so is the checkpoint before it, or an older attar wrote them; delete both to "
            "start again"
        )
    return None, ""


def is_whole(file: Path) -> bool:
    """Whether a checkpoint is, byte for byte, what was written."""
    length = file.stat().st_size - SEAL_BYTES
    if length < 0:
        return False
    with file.open("rb") as stream:
        stream.seek(length)
        return stream.read() == _seal(file, length)


def _seal(file: Path, length: int) -> bytes:
    """The line with the digest of the first `length` bytes of a file."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with file.open("rb") as stream:
        while length > 0 and (chunk := stream.read(min(CHUNK_BYTES, length))):
            digest.update(chunk)
            length -= len(chunk)
    return SEAL + digest.hexdigest().encode() + b"\n"


def _read(file: Path) -> Checkpoint:
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
        version = state["version"]
    except Exception as error:  # sealed, so nothing damaged it: somebody else made it
        raise AttarError(
            f"{file} is no checkpoint of attar ({type(error).__name__}); delete it to start again"
        ) from None
    if version != VERSION:
        raise AttarError(f"{file} was written by another version of attar (format {version}, not {VERSION})")
    return Checkpoint(**state)


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")
