"""The image files below a folder, and a count of everything there that is no image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from attar.decoding import HEIC, SUFFIXES, left_by_systems

# Files that systems leave behind.
SYSTEM_FILES = frozenset(("thumbs.db", "desktop.ini"))
# Photographs that Pillow cannot read, or not without a further package.
FOREIGN = (*HEIC, ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".psd", ".svg", ".tga")
SHOWN = 4  # names in a note


@dataclass
class LeftOut:
    """What a loader leaves out of a folder or merges, for one line before training.

    Attributes:
        suffixes: how many files of each further extension.
        hidden: hidden files and folders, and those of systems and tools.
        links: links to folders, which are not followed.
        empty: folders without images.
        notes: further parts of the line.
    """

    suffixes: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    links: int = 0
    empty: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self, place: Path) -> list[str]:
        """One note that names and counts everything, or none."""
        parts = [_counted(suffix, count) for suffix, count in sorted(self.suffixes.items())]
        parts += [f"{self.hidden} hidden or system files and folders"] * bool(self.hidden)
        parts += [f"{self.links} links to folders"] * bool(self.links)
        parts += [f"folders without images: {listed(self.empty)}"] * bool(self.empty)
        found = ([f"left out {', '.join(parts)}"] if parts else []) + self.notes
        return [f"{place}: {'; '.join(found)}"] if found else []


def _counted(suffix: str, count: int) -> str:
    hint = " (pip install 'attar[heic]' reads them)" if suffix in HEIC else ""
    if not suffix:
        return f"{count} file{'' if count == 1 else 's'} without an extension"
    return f"{count} {suffix}{hint}"


def listed(names: Iterable[str]) -> str:
    """The first names in quotation marks, and how many more there are.

    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def folders_in(place: Path, left: LeftOut) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones and those of systems and tools, which are counted."""
    # Without a look at every file: a folder may hold a million.
    with os.scandir(place) as entries:
        folders = sorted(place / entry.name for entry in entries if entry.is_dir())
    kept = [folder for folder in folders if not left_by_systems(folder.name)]
    left.hidden += len(folders) - len(kept)
    return kept


def image_files(place: Path, left: LeftOut) -> list[Path]:
    """Every image file below a folder, sorted; other files are counted."""
    found = []
    for base, folders, names in os.walk(place):
        kept = [name for name in folders if not left_by_systems(name)]
        links = [name for name in kept if os.path.islink(os.path.join(base, name))]
        left.hidden += len(folders) - len(kept)
        left.links += len(links)
        folders[:] = [name for name in kept if name not in links]
        found += own_images(Path(base), left, names)
    return sorted(found)


def own_images(place: Path, left: LeftOut, names: Iterable[str] | None = None) -> list[Path]:
    """The image files that lie directly in a folder; other files are counted."""
    found = []
    for name in (entry.name for entry in place.iterdir() if entry.is_file()) if names is None else names:
        suffix = os.path.splitext(name)[1].lower()
        if name.startswith(".") or name.lower() in SYSTEM_FILES:
            left.hidden += 1
        elif suffix in SUFFIXES:
            found.append(place / name)
        else:
            left.suffixes[suffix] += 1
    return sorted(found)
