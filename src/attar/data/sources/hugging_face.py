"""Hugging Face datasets that lie on this machine: saved ones, and folders that `datasets` can read. No network."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from attar.data.images import Splits
from attar.data.registry import register_dataset
from attar.data.sources.from_files import Reading
from attar.data.sources.listings import splits_of
from attar.data.sources.split_names import by_role
from attar.decoding import require_pillow
from attar.errors import AttarError, first_line, unknown
from attar.extras import require
from attar.sizes import Size
from attar.yaml_text import check_yaml

LABEL_NAMES = ("label", "labels")
ROWS = 1000  # looked at together
# The head of a README.md, as huggingface_hub finds it.
HEAD = re.compile(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\n|$))")
# Values in it: the names of some 20,000 classes are more than a recipe has.
MOST_SETTINGS = 200_000


@register_dataset(
    "hf",
    title="Hugging Face dataset",
    source="your own: a folder of datasets' save_to_disk, or one that load_dataset reads",
    flip=True,
)
def hf(
    root: Path | None,
    download: bool,
    image_size: Size | None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    skip_unreadable: bool = False,
    test_fraction: float = 0.2,
    resize_size: Size | None = None,
    in_memory: bool | None = None,
    workers: int | None = None,
) -> Splits:
    """Images and classes from a local folder of Hugging Face `datasets`, without the network.

    Splits are taken by name: train, validation (or val, valid, dev) and test; as with folders, validation is the test
    set where there is no test, and a single split is divided. A split without any labels (-1) is left out, and so is
    one of another name. `datasets` keeps an Arrow copy of what it reads from Parquet in its own cache.

    Args:
        root: the folder.
        download: nothing is ever fetched.
        image_size, skip_unreadable, test_fraction, resize_size, in_memory, workers: as for the data set "folder".
        image_column: which column holds the images; None: the one of type Image.
        label_column: which column holds the classes; None: the one of type ClassLabel, or called label or labels.

    Raises:
        AttarError: `datasets` is missing or cannot read the folder, the folder names files elsewhere, a column or a
            split is not found, a label is missing, or as for the data set "folder".
    """
    require_pillow()
    if root is None or not root.is_dir():
        raise AttarError(
            f"data set 'hf' needs a folder that datasets wrote or can read, {str(root)!r} is none; give data.root="
        )
    reading = Reading(image_size, resize_size, in_memory, workers, skip_unreadable, test_fraction)
    found = read_folder(root)
    roles, notes = roles_of(root, found)
    labels, origins, classes = {}, {}, None
    for role, split in roles.items():
        place = f"{root}, split {split!r}"
        columns = columns_of(place, found[split], image_column, label_column)
        given = labels_of(place, found[split], columns[1])
        if given is None:
            notes.append(f"split {split!r} has no labels and is left out")
            continue
        labels[role], origins[role] = given, images_of(root, found[split], columns[0])
        if role == "train":
            classes = getattr(found[split].features[columns[1]], "names", None)
    return splits_of(labels, origins, reading, root, classes=classes, notes=notes)


def read_folder(root: Path) -> dict[str, Any]:
    """The splits of a folder, by name.

    Raises:
        AttarError: `datasets` is missing or cannot read it.
    """
    datasets = require("datasets", "data=hf", "hf")
    _check_settings(root)
    saved = (root / "dataset_dict.json").is_file() or (root / "state.json").is_file()
    with offline(datasets):
        try:
            found = datasets.load_from_disk(str(root)) if saved else datasets.load_dataset(str(root))
        except Exception as error:  # every kind of damage has its own
            raise AttarError(f"datasets cannot read {root} ({_reason(error)}); give a folder that it can") from None
    return dict(found) if isinstance(found, Mapping) else {"train": found}


def _reason(error: Exception) -> str:
    return first_line(error) or type(error).__name__


@contextmanager
def offline(datasets: Any) -> Iterator[None]:
    """Inside, neither `datasets` nor the hub's client asks the network, and no progress is drawn."""
    hub = require("huggingface_hub.constants", "data=hf", "hf")
    switches = [(datasets.config, "HF_DATASETS_OFFLINE"), (datasets.config, "HF_HUB_OFFLINE"), (hub, "HF_HUB_OFFLINE")]
    before = [(module, name, getattr(module, name)) for module, name in switches if hasattr(module, name)]
    drawn = not datasets.are_progress_bars_disabled()
    try:
        # Both read their environment variables only once, when they are imported.
        for module, name, _ in before:
            setattr(module, name, True)
        datasets.disable_progress_bars()
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        if drawn:
            datasets.enable_progress_bars()


def _check_settings(root: Path) -> None:
    """A head of README.md, or a .huggingface.yaml, may send `datasets` to files elsewhere, or grow without end."""
    for file in (root / "README.md", root / ".huggingface.yaml"):
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        if file.suffix == ".md":
            text = head[2] if (head := HEAD.match(text)) else ""
        try:
            check_yaml(text, str(file), MOST_SETTINGS)
            configs = (yaml.safe_load(text) or {}).get("configs")
        except (yaml.YAMLError, AttributeError):
            raise AttarError(f"the settings in {file} are no YAML mapping; mend or remove them") from None
        for value in _texts(configs):
            if "://" in value or "::" in value or Path(value).is_absolute() or ".." in Path(value).parts:
                raise AttarError(
                    f"{file} names data elsewhere ({value[:60]!r}); bring them here and name them by their paths"
                )


def _texts(tree: Any) -> Iterator[str]:
    """Every text in nested mappings and lists."""
    if isinstance(tree, Mapping):
        tree = [*tree, *tree.values()]
    if isinstance(tree, list):
        for value in tree:
            yield from _texts(value)
    elif isinstance(tree, str):
        yield tree


def roles_of(root: Path, found: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Which split plays which role, and notes about the others."""
    roles, left = by_role(found, root, "splits")
    if not roles and len(found) == 1:
        roles, left = {"train": next(iter(found))}, []
    if "train" not in roles:
        raise AttarError(f"{root} has the splits {', '.join(map(repr, found))}; expected one called train")
    return roles, [f"split {split!r} is left out; train, validation and test are used" for split in sorted(left)]


def columns_of(place: str, split: Any, image: str | None, label: str | None) -> tuple[str, str]:
    """The names of the columns of images and of classes: those given, else found by type.

    Raises:
        AttarError: one does not exist, or several fit.
    """
    features = {name: type(feature).__name__ for name, feature in split.features.items()}
    for name in filter(None, (image, label)):
        if name not in features:
            raise unknown(f"column of {place}:", name, features)
    images = [name for name, kind in features.items() if kind == "Image"]
    labels = [name for name, kind in features.items() if kind == "ClassLabel"]
    labels = labels or [name for name in features if name in LABEL_NAMES]
    return _only(place, image, images, "image", features), _only(place, label, labels, "label", features)


def _only(place: str, given: str | None, found: list[str], what: str, features: Mapping[str, str]) -> str:
    if given is None and len(found) != 1:
        named = ", ".join(found or features)
        raise AttarError(
            f"{place} has {len(found) or 'no'} {what} columns{'' if found else ' by type'} ({named}); "
            f"give data.{what}_column=NAME"
        )
    return given or found[0]


def labels_of(place: str, split: Any, column: str) -> list[str] | None:
    """The name of every image's class; None where no image has one.

    Raises:
        AttarError: some images have a class and others none.
    """
    try:
        values = split.select_columns([column]).with_format("arrow")[:].column(0).to_pylist()
    except Exception as error:  # a damaged file fails in many ways
        raise AttarError(f"{place}: column {column!r} is damaged ({_reason(error)}); save it again") from None
    missing = [value in (None, "", -1) for value in values]
    if values and all(missing):
        return None
    if any(missing):
        raise AttarError(f"{place}: image {missing.index(True)} has no label; remove the images without one")
    names = getattr(split.features[column], "names", None)
    good = range(len(names)) if names else None
    for number, value in enumerate(values):
        if not isinstance(value, int | str) or (good is not None and value not in good):
            wanted = f"0..{len(good) - 1}" if good is not None else "a number or a name"
            raise AttarError(f"{place}: image {number} has the label {value!r} in {column!r}; expected {wanted}")
    return [names[value] if names else str(value) for value in values]


def images_of(root: Path, split: Any, column: str) -> ArrowImages:
    """Where the images of a split lie."""
    datasets = require("datasets", "data=hf", "hf")
    held = split.select_columns([column])
    if type(split.features[column]).__name__ == "Image":
        held = held.cast_column(column, datasets.Image(decode=False))
    return ArrowImages(root, root / str(split.split or ""), held, column, np.arange(len(held)))


@dataclass(frozen=True, eq=False)
class ArrowImages:
    """Images in the rows of a Hugging Face dataset, which reads them from disk as they are needed.

    Attributes:
        folder: where the dataset lies; images that are paths must lie there too.
        place: what the dataset is called in messages.
        dataset: holds the column, undecoded: bytes, a path, or {bytes, path}.
        column: its name.
        rows: (N,) the rows that these images are.
    """

    folder: Path
    place: Path
    dataset: Any = field(repr=False)
    column: str
    rows: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, number: int) -> Path:
        return self.place / f"row {int(self.rows[number])}"

    def open(self, number: int) -> Path | BytesIO:
        held, file = _parts(self.dataset[int(self.rows[number])][self.column])
        if held is not None:
            return BytesIO(held)
        if not file or "://" in file:
            raise AttarError("it is elsewhere" if file else "it is empty")
        return self._inside(Path(file))

    def _inside(self, file: Path) -> Path:
        """A path of the dataset's folder, or of what `datasets` unpacked from archives there."""
        cache = require("datasets", "data=hf", "hf").config.HF_DATASETS_CACHE
        file = self.folder / file
        if not any(file.resolve().is_relative_to(Path(place).resolve()) for place in (self.folder, cache)):
            raise AttarError("it is outside the folder of the dataset")
        return file

    def subset(self, index: np.ndarray) -> ArrowImages:
        return replace(self, rows=self.rows[index])

    def identity(self) -> tuple[np.ndarray, ...]:
        names, sizes = [], []
        for start in range(0, len(self.rows), ROWS):
            for cell in self.dataset[self.rows[start : start + ROWS].tolist()][self.column]:
                held, file = _parts(cell)
                names.append(os.fsencode(file or ""))
                sizes.append(-1 if held is None else len(held))
        return self.rows, np.array(names), np.array(sizes, np.int64)


def _parts(cell: Any) -> tuple[bytes | None, str | None]:
    """The bytes or the path of an image in a table."""
    if isinstance(cell, Mapping):
        return cell.get("bytes"), cell.get("path")
    return (None, cell) if isinstance(cell, str) else (cell, None)
