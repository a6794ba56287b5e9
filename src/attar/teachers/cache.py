"""A frozen teacher's logits for every image of an epoch, cached on disk for later seeds, methods and runs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.errors import AttarError
from attar.files import free_space, write_json
from attar.safety.locks import claim
from attar.teachers.logit_codec import Codec

CPU = torch.device("cpu")
# Part of every key: raise it when the layout of a file changes.
FORMAT = 1
DIGEST = 16
# An epoch's rows up to so many bytes lie on the device, where a step finds them without waiting.
MOST_ON_DEVICE = 10**9
# Zeros are written so many bytes at a time.
BLOCK = 2**20
# Seconds after which an unfinished file is abandoned, on a file system without locks.
ABANDONED = 7 * 24 * 3600


class TeacherCache:
    """The logits of one teacher for the varied images of one training set, a file an epoch.

    The folder's name is a hash of all that the logits follow from, so that another teacher, data set, augmentation,
    seed of the views or precision looks elsewhere. A file appears whole or not at all, ends in a digest of its
    content, and is ignored where the two do not fit.

    Args:
        root: the cache; every key gets a folder of its own.
        facts: what the logits follow from, as plain values; written beside them.
        images: how many images an epoch has.
        codec: how a row of logits is stored.
        device: where the logits are wanted.
    """

    def __init__(
        self,
        root: Path,
        facts: dict[str, Any],
        images: int,
        codec: Codec,
        device: torch.device = CPU,
    ) -> None:
        facts = {**facts, "packing": str(codec), "images": images, "format": FORMAT}
        text = json.dumps(facts, sort_keys=True)
        self.folder = root / hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        self.facts, self.images, self.codec = facts, images, codec
        self.device = device if images * codec.row_bytes <= MOST_ON_DEVICE else CPU

    def file(self, epoch: int) -> Path:
        return self.folder / f"epoch{epoch:04d}.bin"

    def bytes_needed(self, epochs: int) -> int:
        """How much the epochs that are not there yet will take."""
        missing = sum(not self.file(epoch).exists() for epoch in range(epochs))
        return missing * (self.images * self.codec.row_bytes + DIGEST)

    def read(self, epoch: int) -> Tensor | None:
        """The rows of an epoch, (images, row_bytes) bytes, on a CPU mapped from the file; None without a sound file."""
        file = self.file(epoch)
        content = self.images * self.codec.row_bytes
        try:
            if file.stat().st_size != content + DIGEST:
                return None
            # "c": torch wants writable memory; it is never written, and that would not reach the file.
            whole = np.memmap(file, np.uint8, mode="c")
        except OSError:
            return None
        if _digest(whole[:content]) != whole[content:].tobytes():
            return None
        return torch.from_numpy(whole[:content].reshape(self.images, self.codec.row_bytes)).to(self.device)

    def writer(self, epoch: int) -> Writer:
        """For an epoch that is seen from its first batch on.

        Raises:
            OSError: the disk does not take it.
            AttarError: nor does it take the note on what the folder holds.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "key.json", self.facts)
        return Writer(self.file(epoch), self.images, self.codec.row_bytes, self.device)

    def decode(self, rows: Tensor, index: Tensor) -> Tensor:
        """The logits of some images, (B, K) float32."""
        return self.codec.decode(rows.index_select(0, index.to(rows.device))).to(index.device)


class Writer:
    """Rows of one epoch in a temporary file, which gets its name when every image has been written once.

    On another device than the CPU the rows wait there until then.
    """

    def __init__(self, file: Path, images: int, row_bytes: int, device: torch.device = CPU) -> None:
        self.file = file
        _remove_abandoned(file.parent)
        self._temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        # Held open, because its lock marks it as being written.
        self._handle = os.open(self._temporary, os.O_RDWR | os.O_CREAT, 0o644)
        if claim(self._handle) is False:
            os.close(self._handle)
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        try:
            os.ftruncate(self._handle, 0)
            # Blocks now: a full disk is found here, not by a signal in the middle of a memory-mapped write.
            allocate = getattr(os, "posix_fallocate", write_zeros)  # macOS has none
            allocate(self._handle, 0, images * row_bytes + DIGEST)
            self._whole = np.memmap(self._temporary, np.uint8, mode="r+")
        except OSError:
            self.discard()
            raise
        self._file_rows = torch.from_numpy(self._whole[: images * row_bytes].reshape(images, row_bytes))
        self._rows = self._file_rows if device.type == "cpu" else torch.empty_like(self._file_rows, device=device)
        self._seen = torch.zeros(images, dtype=torch.bool, device=device)

    def write(self, index: Tensor, rows: Tensor) -> None:
        """Rows of some images."""
        where = index.to(self._rows.device)
        self._rows.index_copy_(0, where, rows.to(self._rows.device))
        self._seen.index_fill_(0, where, True)

    def commit(self) -> None:
        """Give the file its name, if no image is missing."""
        if not self._seen.all():
            return self.discard()
        if self._rows is not self._file_rows:
            self._file_rows.copy_(self._rows)
        self._whole[-DIGEST:] = np.frombuffer(_digest(self._whole[:-DIGEST]), np.uint8)
        self._whole.flush()
        os.replace(self._temporary, self.file)

    def discard(self) -> None:
        """Leave nothing unfinished; a file that has its name already stays."""
        self._temporary.unlink(missing_ok=True)
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1


def write_zeros(handle: int, start: int, length: int) -> None:
    """What `os.posix_fallocate` does, by writing.

    Raises:
        OSError: the disk does not take it.
    """
    end = start + length
    while start < end:
        start += os.pwrite(handle, bytes(min(BLOCK, end - start)), start)


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed runs left, and leave what others are writing."""
    for part in folder.glob(".*.tmp"):
        try:
            handle = os.open(part, os.O_RDWR)
        except OSError:  # just finished, or another process's
            continue
        try:
            free = claim(handle)
            if free or (free is None and time.time() - os.fstat(handle).st_mtime > ABANDONED):
                part.unlink(missing_ok=True)
        finally:
            os.close(handle)


def _digest(content: np.ndarray) -> bytes:
    return hashlib.blake2b(content.data, digest_size=DIGEST).digest()


def check_space(root: Path, needed: int) -> str:
    """A line on the space that a cache will take.

    Raises:
        AttarError: the disk has not that much room.
    """
    free = free_space(root)
    line = f"teacher cache in {root}: {size(needed)} to be written, {size(free)} free"
    if needed > 0.95 * free:
        raise AttarError(f"{line}; set teacher.cache_top, or choose another teacher.cache folder, or leave it out")
    return line


def size(count: float) -> str:
    """Bytes for people.

    >>> size(10_000_000)
    '10.0 MB'
    """
    power = min(3, max(0, len(str(int(count))) - 1) // 3)
    return f"{count / 1000**power:.{1 if power else 0}f} {('B', 'kB', 'MB', 'GB')[power]}"
