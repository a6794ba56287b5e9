"""From a name or an object to the sets of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from attar.data.images import FeatureSplits, ImageSet, Splits
from attar.data.loading.class_weights import class_weights as weights_of
from attar.data.loading.split import limit, split_off
from attar.data.registry import DATASETS
from attar.data.sources import (  # noqa: F401
    cifar,
    digit_mosaics,
    digits,
    folders,
    hugging_face,
    label_table,
    manifest,
    web_dataset,
)
from attar.data.sources.drawn import DrawnSet
from attar.data.sources.image_tree import listed
from attar.data.sources.unlabelled_folder import unlabelled_images
from attar.data.sources.wrap import wrap
from attar.data.tensor_set import TensorSplits
from attar.data.transforms.augment import Augment
from attar.errors import AttarError, unknown
from attar.plugins import function_named, names_function
from attar.sizes import Size

# Of a single set without a test set, the part tested on; the same images in every run.
TEST_FRACTION, TEST_SEED = 0.2, 0
# The sets of a task, of labelled images or of samples of any kind.
Sets = TypeVar("Sets", Splits, TensorSplits)
COMMON = ("train_size", "mean", "std", "augment", "image_size", "val_fraction", "class_weights")


def load_data(
    data: Any = "digits",
    root: str | Path | None = None,
    download: bool = True,
    image_size: Size | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    *,
    train_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: Mapping[str, object] | None = None,
    class_weights: str | Sequence[float] | Mapping[str, float] | None = None,
    unlabelled: str | Path | None = None,
    **options: Any,
) -> Splits:
    """The sets of a task, with the validation set split off the training set.

    Args:
        data: a registered name (`list_datasets()`), a folder of images, a `Splits`, an `ImageSet` or any map-style data
            set of (image, label) pairs, or a pair of those (train, test). A single set gives a fifth for the test. Also
            module:function, a function that returns one of these, of a module that was imported.
        root: the folder that holds the data; None: where downloads are kept.
        download: whether a missing published set may be fetched.
        image_size: side in pixels, or height and width; None: the data set's own, 64 for folders.
        val_fraction: the part of the training set kept apart for validation; 0: none. Data that come with a validation
            set keep theirs.
        seed: which images are kept apart; the test set never depends on it.
        train_size: train on only so many images, the same share of every class; None: all.
        mean: per channel in 0..1 units, what images are normalised with; None: the data set's own.
        std: as `mean`.
        augment: changes to the data set's own `Augment`: crops padded by an eighth of the image, and mirrored images
            where that keeps the class. Data given as objects are not mirrored unless `flip` is set here.
        class_weights: weight of each class in the loss from labels: "balanced", a number for each class, or numbers
            by the names of classes; None: all alike. See `attar.data.loading.class_weights`.
        unlabelled: a folder of images without labels, of any layout, that training shows too. They are read as the
            training images are and count nowhere else: not in the split, not in the classes' weights.
        options: further settings of the data set (test_fraction, skip_unreadable, ...).

    Raises:
        AttarError: a name or an option is unknown, or the data are missing, damaged or do not fit together.

    >>> splits = load_data("digits", val_fraction=0.1)
    >>> len(splits.train), len(splits.val), len(splits.test), splits.augment.crop_padding
    (809, 90, 898, 1)
    """
    whole = read_data(
        data, root, download, image_size, mean=mean, std=std, augment=augment, unlabelled=unlabelled, **options
    )
    return divided(whole, val_fraction, seed, train_size, class_weights)


def read_data(
    data: Any,
    root: str | Path | None = None,
    download: bool = True,
    image_size: Size | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: Mapping[str, object] | None = None,
    unlabelled: str | Path | None = None,
    **options: Any,
) -> Splits:
    """The part of `load_data` that is the same for every seed: all images, read; arguments and errors as there."""
    place = None if root is None else Path(root).expanduser()
    if isinstance(data, str) and names_function(data):
        data, options = function_named(data)(**options), {}
    if isinstance(data, str | Path):
        splits, flip = _named(str(data), place, download, image_size, options)
    else:
        splits, flip = _given(data, options)
    if image_size is not None:
        splits = splits.map(lambda images: images.resized(image_size))
    splits = splits.map(lambda images: replace(images, mean=tuple(mean or images.mean), std=tuple(std or images.std)))
    if not isinstance(data, Splits):
        # A data set that draws its images at random has its own crops.
        padding = 0 if isinstance(splits.train, DrawnSet) else min(splits.image_shape[1:]) // 8
        splits = replace(splits, augment=Augment(crop_padding=padding, flip=flip))
    splits = replace(splits, notes=(*splits.notes, *_without_images(splits.train)))
    if unlabelled is not None:
        found, notes = unlabelled_images(
            Path(unlabelled).expanduser(), splits.train, bool(options.get("skip_unreadable"))
        )
        splits = replace(splits, unlabelled=found, notes=(*splits.notes, *notes))
    return replace(splits, augment=splits.augment.changed(augment or {}))


def _without_images(train: ImageSet) -> list[str]:
    """A note that names classes without training images."""
    empty = [name for name, count in zip(train.classes, train.class_counts.tolist(), strict=True) if not count]
    return [f"classes without training images: {listed(empty)}"] if empty else []


def divided(
    splits: Sets,
    val_fraction: float,
    seed: int,
    train_size: int | None = None,
    class_weights: str | Sequence[float] | Mapping[str, float] | None = None,
) -> Sets:
    """The other part of `load_data`: which samples one seed keeps apart and which it trains on.

    >>> whole = read_data("digits")
    >>> [len(part) for part in (divided(whole, 0.1, seed=0).train, divided(whole, 0.1, seed=0).val, whole.train)]
    [809, 90, 899]
    """
    if isinstance(splits, TensorSplits | FeatureSplits):
        return splits.divided(val_fraction, seed, train_size)
    if splits.val is None and val_fraction:
        train, val = split_off(splits.train, val_fraction, seed, "data.val_fraction")
        splits = replace(splits, train=train, val=val)
    if train_size is not None:
        splits = replace(splits, train=limit(splits.train, train_size, seed))
    if class_weights is not None:
        weights = weights_of(class_weights, splits.train)
        splits = replace(splits, train=replace(splits.train, class_weights=weights))
    return splits


def _named(
    name: str, root: Path | None, download: bool, image_size: Size | None, options: dict[str, Any]
) -> tuple[Splits, bool]:
    """The sets of a registered name or of a path, and whether mirrored images keep their class."""
    if name not in DATASETS and Path(name).expanduser().is_dir():
        if root is not None:
            raise AttarError(f"data={name} is a folder already; leave data.root={root} out")
        name, root = "folder", Path(name).expanduser()
    if name not in DATASETS and Path(name).expanduser().is_file():
        kind = "webdataset" if Path(name).suffix == ".tar" else "manifest"
        raise AttarError(f"data={name} is a file; give data={kind} data.root={name}")
    if name not in DATASETS and Path(name).name != name:
        raise AttarError(f"data={name}: there is no such folder; give data=FOLDER, where the images are")
    if name not in DATASETS:
        raise unknown("data set or folder", name, DATASETS)
    info = DATASETS[name]
    for option in options:
        if option not in info.options:
            raise unknown(f"option of data set {name!r}:", option, [*info.options, *COMMON])
    return info.load(root, download, image_size, **options), info.flip


def _given(data: Any, options: dict[str, Any]) -> tuple[Splits, bool]:
    """The sets of an object; whether mirrored images keep their class is not known, so no."""
    workers = options.pop("workers", 0)
    for option in options:
        raise unknown("option of data given as an object:", option, (*COMMON, "workers"))
    if isinstance(data, Splits):
        return data, bool(data.augment.flip)
    # A list is a data set of pairs; two data sets come as a tuple.
    if isinstance(data, tuple) and len(data) == 2:
        train = _image_set(data[0], workers)
        named = getattr(data[1], "classes", None) is not None
        test = _alike(_image_set(data[1], workers, None if named else train.classes), train)
        return Splits(train, test, notes=_drawn_notes(train, test)), False
    train, test = split_off(_image_set(data, workers), TEST_FRACTION, TEST_SEED)
    return Splits(train, test, notes=_drawn_notes(train, test)), False


def _image_set(data: Any, workers: int, classes: Sequence[str] | None = None) -> ImageSet:
    return data if isinstance(data, ImageSet) else wrap(data, classes=classes, workers=workers)


def _drawn_notes(train: ImageSet, test: ImageSet) -> tuple[str, ...]:
    """What follows from images that the data set draws at random."""
    if not isinstance(train, DrawnSet):
        return ()
    held_out = "the test and validation images" if isinstance(test, DrawnSet) else "the validation images"
    return (
        f"images of {train.name!r} are drawn at random by the data set: training reads them anew in every epoch, and "
        f"{held_out} are those of the first",
    )


def _alike(images: ImageSet, train: ImageSet) -> ImageSet:
    """A held-out set seen through the training set's statistics, its classes numbered as there.

    Raises:
        AttarError: other channels, or a class that the training images lack.
    """
    if len(images.mean) != len(train.mean):
        raise AttarError(
            f"test images have {len(images.mean)} channels, training images {len(train.mean)}; make them equal"
        )
    if lacking := [name for name in images.classes if name not in train.classes]:
        numbered = [str(number) for number in range(len(train.classes))]
        if numbered not in (list(train.classes), list(images.classes)) or len(images.classes) != len(numbered):
            raise AttarError(
                f"the test images have the class {lacking[0]!r}, which the training images lack: they have "
                f"{', '.join(train.classes[:5])}{', ...' if len(train.classes) > 5 else ''}; give both the same classes"
            )
        images = replace(images, classes=train.classes)  # one of the two has numbers for names
    return replace(images.numbered_as(train.classes), mean=train.mean, std=train.std)
