"""The table of export formats: what each writes, how it is read again, and what it needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.deploy.classifier import Classifier
from attar.errors import AttarError
from attar.registry import Registry

Write = Callable[[Any, Path], object]
Open = Callable[[Path], Any]


@dataclass(frozen=True)
class Format:
    """A kind of file that a student is exported to.

    Attributes:
        name: what `attar export` calls it.
        suffix: the file is student + suffix.
        title: one line for listings.
        write: write(student, path) writes the file; student is a `attar.deploy.Student`.
        open: open(path) reads it again, as something called like a network: (N, C, H, W) images to (N, K) logits.
        check: check(student, path) of a file that no runtime here can run, in place of `open`: it raises where the file
            is not what it should be. Such a file is neither compared nor timed.
        exact: whether its logits must be the student's, within `tolerance`; if not, the difference is only reported.
        tolerance: the largest difference of a logit, in parts of the largest; None: `attar.deploy.parity.TOLERANCE`.
        calibrated: whether its scales are read off the student's calibration images.
        beside: suffixes of further files that belong to it.
        graph: whether it holds the computation besides the weights, and with it the normalisation when that is baked.
        packages: what it imports.
        extra: the extra of attar that installs them.
        default: whether it is made when no format is named.
        classifier: classifier(path) opens a file for `attar predict`; None: it cannot.
        tag: the tag that model hubs file it under; "": none.
        loading: Python for the model card that loads the file and runs it; "": none.
        images: whether it is for classified images alone.
        facts: facts(path) reads the metadata of a file back, which `attar evaluate FILE` needs; None: it has none.
        note: a sentence below the table of exported files; "": nothing.
    """

    name: str
    suffix: str
    title: str
    write: Write
    open: Open | None = None
    exact: bool = True
    tolerance: float | None = None
    calibrated: bool = False
    beside: tuple[str, ...] = ()
    check: Callable[[Any, Path], object] | None = None
    graph: bool = True
    packages: tuple[str, ...] = ()
    extra: str = ""
    default: bool = False
    classifier: Callable[[Path], Classifier] | None = None
    tag: str = ""
    loading: str = ""
    note: str = ""
    images: bool = False
    facts: Callable[[Path], dict[str, str]] | None = None

    @property
    def file(self) -> str:
        """The file's name in the export's folder."""
        return f"student{self.suffix}"

    def files(self, folder: Path) -> list[Path]:
        """The file and what belongs to it; one of them may be a folder."""
        return [folder / f"student{suffix}" for suffix in (self.suffix, *self.beside)]

    def bytes(self, folder: Path) -> int:
        """The size of all of it."""
        held = [one for path in self.files(folder) for one in ([path] if path.is_file() else path.rglob("*"))]
        return sum(one.stat().st_size for one in held if one.is_file())

    def remove(self, folder: Path) -> None:
        """Delete all of it."""
        for path in self.files(folder):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)


FORMATS: Registry[Format] = Registry("format")


def register_format(
    name: str, *, suffix: str, title: str, write: Write, open: Open | None = None, **settings: Any
) -> None:
    """Add an export format: `attar export` writes it, reads it again, compares it with the student and times it.

    Args:
        name: what `attar export` calls it.
        suffix: of the file, with its dot; no two formats share one.
        title: one line for listings.
        write: write(student, path) writes the file. `student.net` is the network, `student.deployed` the network as
            graph formats hold it (with the normalisation when that is baked), `student.example` two images for it.
        open: open(path) gives something called like a network: (N, C, H, W) images to (N, K) logits. None: nothing here
            can run the file; give `check` then.
        settings: the other attributes of `Format`, by default an exact graph made on request.

    Raises:
        AttarError: the name or the suffix is taken, the suffix has no dot, or there is neither open nor check.

    >>> register_format("half", suffix="safetensors", title="", write=print, open=print)
    Traceback (most recent call last):
    attar.errors.AttarError: format 'half': suffix must begin with a dot, got 'safetensors'
    """
    if not suffix.startswith("."):
        raise AttarError(f"format {name!r}: suffix must begin with a dot, got {suffix!r}")
    for other in FORMATS:
        if FORMATS[other].suffix == suffix and other != name:
            raise AttarError(f"format {name!r}: suffix {suffix!r} is that of format {other!r}; choose another")
    if open is None and settings.get("check") is None:
        raise AttarError(f"format {name!r}: give open(path), or check(student, path) where no runtime is at hand")
    FORMATS.add(Format(name, suffix, title, write, open, **settings))


def list_formats(pattern: str = "*") -> list[str]:
    """The registered formats whose name matches a shell pattern.

    >>> from attar.deploy.formats import list_formats
    >>> list_formats("onnx*")
    ['onnx', 'onnx-fp16', 'onnx-int8']
    """
    return FORMATS.names(pattern)
