"""WebDataset shards: plain tar files of KEY.jpg and KEY.cls (or KEY.json), read at any place.

Shards are indexed once, by their headers, and not streamed through a shuffle buffer: only so does an epoch's
order follow from its address, and a resumed run see what the uninterrupted one would.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from attar.data.images import Splits
from attar.data.registry import register_dataset
from attar.data.sources.from_files import Reading
from attar.data.sources.image_tree import listed
from attar.data.sources.listings import splits_of
from attar.data.sources.split_names import is_split_name, role_of, roles_in
from attar.decoding import SUFFIXES, require_pillow
from attar.errors import AttarError
from attar.sizes import Size

LABELS = (".cls", ".json")
# In bytes: larger members are a mistake, or an attack.
MOST_IMAGE, MOST_LABEL = 2**28, 2**20
MOST_SHARDS = 10**5
# The first bytes of gzip, bzip2, xz and Zstandard.
COMPRESSED = (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5")


@register_dataset(
    "webdataset", title="WebDataset shards", source="your own: tar files of KEY.jpg and KEY.cls or KEY.json", flip=True
)
def webdataset(
    root: Path | None,
    download: bool,
    image_size: Size | None,
    *,
    label_key: str = "label",
    skip_unreadable: bool = False,
    test_fraction: float = 0.2,
    resize_size: Size | None = None,
    in_memory: bool | None = None,
    workers: int | None = None,
) -> Splits:
    """Images and classes from the shards of a WebDataset, read at random places.

    A shard's role follows from a word in its name, or from its folder, as for the data set "folder"; all others are
    trained on, and a note names them where some have one. As with folders, val is the test set where there is no
    test, and shards of one role are divided. Members are never unpacked; what is neither an image nor a label is
    passed over.

    Args:
        root: a folder of .tar files, or their names as a pattern: shards/train-{000..009}.tar, shards/*.tar.
        download: nothing is fetched.
        image_size, skip_unreadable, test_fraction, resize_size, in_memory, workers: as for the data set "folder".
        label_key: what holds the class in KEY.json.

    Raises:
        AttarError: there are no shards, one is compressed or damaged, holds a link or a device, or a member of absurd
            size, an image lacks its label or has two, or as for the data set "folder".
    """
    require_pillow()
    if root is None:
        raise AttarError("data set 'webdataset' needs shards; give data.root=FOLDER or a pattern of .tar files")
    reading = Reading(image_size, resize_size, in_memory, workers, skip_unreadable, test_fraction)
    labels: dict[str, list[str]] = {}
    found: dict[str, list[tuple[Path, list[Member]]]] = {}
    roles = {shard: role_of_shard(shard) for shard in shards_of(root)}
    unnamed = [shard.name for shard, role in roles.items() if role is None]
    notes = [f"{len(unnamed)} shards without a split in their name are trained on: {listed(unnamed)}"]
    for shard, role in roles.items():
        role = role or "train"
        members = index(shard, label_key)
        labels.setdefault(role, []).extend(member.label for member in members)
        found.setdefault(role, []).append((shard, members))
    origins = {role: in_shards(members) for role, members in found.items()}
    return splits_of(labels, origins, reading, root, notes=notes if 0 < len(unnamed) < len(roles) else [])


@dataclass(frozen=True, slots=True)
class Member:
    """One image of a shard: what it is called, where its bytes are, and its class."""

    name: str
    start: int
    size: int
    label: str


def shards_of(root: Path) -> list[Path]:
    """The tar files in a folder or of a pattern with {a,b}, {000..009}, * or ?, sorted.

    Raises:
        AttarError: there are none.
    """
    if root.is_dir():
        found = sorted(root.rglob("*.tar"))
    else:
        found = []
        for name in itertools.islice(expand(str(root)), MOST_SHARDS):
            place = Path(name)
            wild = any(sign in name for sign in "*?[")
            matches = sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor)))) if wild else [place]
            if missing := [file for file in matches if not file.is_file()]:
                raise AttarError(
                    f"shard {str(missing[0])!r} is no file; give data.root=FOLDER, or a pattern of .tar files"
                )
            found += matches
    if not found:
        raise AttarError(f"data.root={str(root)!r} has no .tar files; give a folder of shards, or a pattern")
    # A shard that two patterns name is one shard.
    return list(dict.fromkeys(found))


def expand(pattern: str) -> Iterator[str]:
    """The names that braces stand for.

    >>> list(expand("{train,val}-{08..10}.tar"))[2:5]
    ['train-10.tar', 'val-08.tar', 'val-09.tar']
    """
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        yield pattern
        return
    inside = match[1]
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    parts: list[str] | Iterator[str] = inside.split(",")
    if numbers:
        width = len(numbers[1]) if numbers[1].startswith("0") else 0
        parts = (str(number).zfill(width) for number in range(int(numbers[1]), int(numbers[2]) + 1))
    for part in parts:
        yield from expand(pattern[: match.start()] + part + pattern[match.end() :])


def role_of_shard(shard: Path) -> str | None:
    """train, val or test, by a word in a shard's name, else by its folder; None where neither has one.

    Raises:
        AttarError: a name has words of two splits.

    >>> role_of_shard(Path("shards/imagenet1k-validation-07.tar")), role_of_shard(Path("shards/000.tar"))
    ('val', None)
    """
    if len(roles_in(shard.stem)) > 1:
        raise AttarError(f"shard {str(shard)!r} is named for two splits; name it for one of them")
    return role_of(shard.stem) or (role_of(shard.parent.name) if is_split_name(shard.parent.name) else None)


def index(shard: Path, label_key: str) -> list[Member]:
    """The images of one shard, in its order, from the headers and the labels alone.

    Raises:
        AttarError: as `webdataset`.
    """
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, str] = {}
    with shard.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for info in _headers(shard, file):
            suffix = Path(info.name).suffix.lower()
            # KEY.seg.png belongs to KEY but is not its image.
            key, _, kind = info.name.rpartition("/")[2].partition(".")
            key = info.name[: len(info.name) - len(kind) - 1]
            if f".{kind.lower()}" != suffix or suffix not in (*SUFFIXES, *LABELS):
                continue
            most = MOST_LABEL if suffix in LABELS else MOST_IMAGE
            if info.size > most or info.offset_data + info.size > size:
                raise AttarError(
                    f"{shard}: the header of {info.name!r} gives {info.size} bytes, more than the shard or any such "
                    "file has; the shard is damaged, write it again"
                )
            if key in (labels if suffix in LABELS else images):
                raise AttarError(f"{shard}: {key!r} has two {'labels' if suffix in LABELS else 'images'}; keep one")
            if suffix in SUFFIXES:
                images[key] = info.name, info.offset_data, info.size
            else:
                file.seek(info.offset_data)
                labels[key] = _label(f"{shard}: {info.name!r}", suffix, file.read(info.size), label_key)
    if missing := next((key for key in images if key not in labels), None):
        raise AttarError(f"{shard}: {images[missing][0]!r} has no label; add {missing}.cls or {missing}.json")
    if stray := next((key for key in labels if key not in images), None):
        raise AttarError(f"{shard}: {stray!r} has a label but no image ({', '.join(SUFFIXES)})")
    return [Member(*found, labels[key]) for key, found in images.items()]


def _headers(shard: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The plain files of a tar file, which is read from header to header."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                # Not kept: an archive of a million members would fill the memory with them.
                tar.members = []  # type: ignore[attr-defined]
                if not (info.isreg() or info.isdir()) or info.issparse():
                    raise AttarError(f"{shard}: {info.name!r} is a link or a device; expected plain files only")
                if info.isreg():
                    yield info
            # tarfile takes a damaged header for the end, which is a block of zeros or nothing.
            file.seek(tar.offset)
            if any(file.read(tarfile.BLOCKSIZE)):
                raise tarfile.ReadError(f"no header at byte {tar.offset}")
    except (tarfile.TarError, OSError, EOFError) as error:
        file.seek(0)
        if file.read(2) in COMPRESSED:
            raise AttarError(f"{shard} is compressed, so no image can be read alone; decompress it first") from None
        raise AttarError(f"{shard} is damaged ({error}); write it again") from None


def _label(where: str, suffix: str, text: bytes, label_key: str) -> str:
    """The name or number of a class."""
    try:
        if suffix == ".cls":
            label = text.decode("utf-8").strip()
        else:
            held = json.loads(text)
            label = str(held[label_key]).strip() if isinstance(held[label_key], int | str) else ""
    except (ValueError, KeyError, TypeError, RecursionError):
        label = ""
    if not label or "\n" in label:
        kind = "one class" if suffix == ".cls" else f"JSON with {label_key!r}: a number or a name"
        raise AttarError(f"{where} does not name a class; expected {kind}")
    return label


@dataclass(frozen=True, eq=False)
class Shards:
    """Images inside tar files.

    Attributes:
        files: the tar files.
        names: (N,) what the images are called there, as bytes.
        place: (N, 3) each one's tar file, and the start and the size of its bytes.
    """

    files: tuple[Path, ...]
    names: np.ndarray = field(repr=False)
    place: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, number: int) -> Path:
        return self.files[self.place[number, 0]] / os.fsdecode(bytes(self.names[number]))

    def open(self, number: int) -> BytesIO:
        shard, start, size = self.place[number].tolist()
        with self.files[shard].open("rb") as file:
            file.seek(start)
            return BytesIO(file.read(size))

    def subset(self, index: np.ndarray) -> Shards:
        return replace(self, names=self.names[index], place=self.place[index])

    def identity(self) -> tuple[np.ndarray, ...]:
        files = np.array([os.fsencode(self.files[shard].name) for shard in self.place[:, 0]])
        return files, self.names, self.place[:, 1:]


def in_shards(found: list[tuple[Path, list[Member]]]) -> Shards:
    """The images of several shards, one shard after another."""
    names = [os.fsencode(member.name) for _, members in found for member in members]
    place = [(number, one.start, one.size) for number, (_, members) in enumerate(found) for one in members]
    return Shards(tuple(shard for shard, _ in found), np.array(names), np.array(place, np.int64).reshape(-1, 3))
