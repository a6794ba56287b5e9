"""Features of images without labels: a student learns those of foundation models."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from attar.batch import Address, Batch
from attar.data import Augment, FeatureSplits, ImageSet, Splits, list_datasets, load_data, read_data
from attar.data.sources.from_files import Reading
from attar.data.sources.unlabelled_folder import all_images
from attar.errors import AttarError, unknown
from attar.losses import MSE
from attar.losses.loss import Loss
from attar.metrics.base import Metrics
from attar.metrics.features import FeatureMetrics, LabelledFeatureMetrics
from attar.recipe import Recipe
from attar.registry import check_types
from attar.tasks.images import read_images
from attar.tasks.registry import register_task

TEST_FRACTION = 0.1


@register_task("features")
@dataclass
class Features:
    """Features (B, D) of networks without a classifier; images need no labels.

    Args:
        labelled: a folder of labelled images, ROOT/CLASS/IMAGE or with train/ and val/, on which the features are
            scored by a kNN classifier, during training and at the end; nothing learns from it. None: images without
            labels are kept apart, and features are scored by the dimensions they use (RankMe).

    >>> Features().metrics().primary.name, Features("photos").metrics().primary.name
    ('rank', 'knn')
    """

    labelled: str | None = None
    output: str = "features"

    def __post_init__(self) -> None:
        self._has_labels = self.labelled is not None

    def supervise(self) -> Loss:
        """There is nothing to supervise with.

        Raises:
            AttarError: always.
        """
        raise AttarError(
            "task=features has no labels to learn from: it takes method=embed or unic, teachers with weights "
            "(teacher.weights=FILE or pretrained) and alone=skip"
        )

    def imitate(self, temperature: float) -> Loss:
        """The mean squared error to features of the same width; features have no temperature."""
        return MSE()

    def metrics(self) -> Metrics:
        """The kNN score where there are labelled images, else the rank of the features; that of a teacher beside it."""
        return LabelledFeatureMetrics() if self._has_labels else FeatureMetrics()

    def example(self) -> Batch:
        """Two colour images of noise, 32 x 32."""
        images = torch.randn(2, 3, 32, 32, generator=Address().generator("example"))
        return Batch(images, torch.full((2,), -1), torch.arange(2), output=self.output)

    def load(self, recipe: Recipe) -> Splits:
        """Every image below the folder `data=FOLDER` or `data.root=FOLDER`, in any layout; or a registered data set,
        whose training labels are dropped and whose test labels score the features.

        Raises:
            AttarError: images are missing, or a key needs labels.
        """
        data = recipe.data
        needs_labels = {"unlabelled": data.unlabelled, "mixup": data.mixup, "cutmix": data.cutmix}
        for name in [*(key for key, value in needs_labels.items() if value), *("class_weights",) * _weighs(recipe)]:
            raise AttarError(f"data.{name} is for images with labels, not for task=features; leave it out")
        if data.name in list_datasets() and data.name != "folder":
            return self._of_data_set(recipe)
        folder = data.root if data.name == "folder" else data.name
        if folder is None:
            raise AttarError("data=folder needs the folder of images; give data=FOLDER")
        options = {key: value for key, value in data.options.items() if key not in ("mean", "std", "download")}
        known = list(inspect.signature(Reading).parameters)
        for option in options:
            if option not in known:
                raise unknown("option of images without labels:", option, [*known, "mean", "std"])
        check_types("data", load_data, {key: data.options[key] for key in ("mean", "std") if key in data.options})
        check_types("images without labels", Reading, options)
        reading = Reading(**{"test_fraction": TEST_FRACTION, **options})
        images, notes = all_images(Path(folder).expanduser(), reading)
        mean, std = (tuple(data.options.get(key) or getattr(images, key)) for key in ("mean", "std"))
        images = replace(images, mean=mean, std=std)
        augment = Augment(crop_padding=min(images.image_shape[1:]) // 8, flip=True).changed(data.augment)
        if self.labelled is None:
            whole = FeatureSplits(images, images, augment=augment, notes=tuple(notes))
            if reading.test_fraction == 1:
                return whole
            apart = whole.divided(reading.test_fraction, seed=0)  # the same test images in every run
            assert apart.val is not None
            return replace(whole, train=apart.train, test=apart.val)
        return self._scored(images, Path(self.labelled).expanduser(), augment, notes)

    def _scored(self, images: ImageSet, place: Path, augment: Augment, notes: list[str]) -> FeatureSplits:
        """The images with those of a labelled folder to be scored on, read and normalised alike."""
        if not place.is_dir():
            raise AttarError(f"task.labelled={str(place)!r} is no folder; expected one with a folder per class")
        size, stored = images.image_shape[1:], images.stored_size
        margin: dict[str, Any] = {} if stored == size else {"resize_size": list(stored)}
        found = read_data(str(place), image_size=size, mean=images.mean, std=images.std, **margin)
        return FeatureSplits(
            replace(images, classes=found.classes),
            found.test,
            found.train,
            augment=augment,
            notes=(*notes, *found.notes),
        )

    def _of_data_set(self, recipe: Recipe) -> FeatureSplits:
        """A registered data set, its training labels dropped."""
        if self.labelled is not None:
            raise AttarError(f"data={recipe.data.name} has labelled test images; leave task.labelled out")
        found = read_images(recipe)
        if found.train.multilabel:
            raise AttarError("a kNN score needs images of one class each; give a folder of images, or other data")
        self._has_labels = True
        train = replace(found.train, labels=torch.full_like(found.train.labels, -1))
        return FeatureSplits(train, found.test, found.val, found.augment, found.notes)


def _weighs(recipe: Recipe) -> bool:
    return "class_weights" in recipe.data.options
