"""A model that labels images, whatever file it comes from; numpy alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attar.errors import AttarError


@dataclass(frozen=True)
class Classifier:
    """A model that is ready to label images.

    Attributes:
        classes: their names, in the order of the logits.
        image_shape: (C, H, W).
        read_size: side in pixels, or height and width, that files are read at; the centre is cut out of that.
        mean: per channel in 0..1 units; None when the model normalises by itself.
        std: as mean.
        run: from images (N, C, H, W), uint8 without mean and normalised float32 with it, to logits (N, K).
        multilabel: whether an image may have any number of the classes: each has a probability of its own.
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    read_size: int | tuple[int, int]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    run: Callable[[np.ndarray], np.ndarray]
    multilabel: bool = False

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """(N, K) probabilities of images as bytes (N, C, H, W).

        Raises:
            AttarError: the model has other outputs than there are names of classes, or puts out features.
        """
        if not self.classes:
            raise AttarError(
                "this network puts out features, not classes; `attar train student=RUN` trains a classifier"
            )
        images = pixels
        if self.mean is not None and self.std is not None:
            # In byte units, in the same order as in training.
            mean, std = (255 * np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
            images = (pixels.astype(np.float32) - mean) / std
        logits = self.run(images).astype(np.float64)
        if logits.shape[1:] != (len(self.classes),):
            raise AttarError(
                f"the model's outputs are {logits.shape[1:]}, its record names {len(self.classes)} classes; restore "
                "the record beside it, or export the run again"
            )
        if self.multilabel:
            return np.exp(-np.logaddexp(0, -logits))
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        return exponentials / exponentials.sum(1, keepdims=True)


def open_run(path: Path) -> Classifier:
    """The student of a run's folder, or of a .safetensors file with its JSON.

    Raises:
        AttarError: there is none, the run is not finished, it takes images that files do not hold, or torch is not
            installed.
    """
    try:
        from attar.deploy.package import load
        from attar.deploy.trained_run import find_trained
    except ImportError as error:
        missing = (error.name or "torch").partition(".")[0]
        raise AttarError(f"{path} needs {missing}; pip install attar, or give an exported .onnx file") from None

    trained = find_trained(path)
    return classifier_of(load(trained.weights), trained.card, path)


def classifier_of(net: Any, card: dict[str, Any], path: str | Path) -> Classifier:
    """A network with the JSON beside its weights; `path` is for the messages.

    Raises:
        AttarError: it takes images that files do not hold.
    """
    import torch

    from attar.sizes import checked_size

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(images)).numpy()

    shape = checked_shape(card["image_shape"], path)
    size = checked_size("resize_size", card.get("data_options", {}).get("resize_size") or shape[1:])
    mean, std = tuple(card["mean"]), tuple(card["std"])
    return Classifier(tuple(card["classes"]), shape, size, mean, std, run, bool(card.get("multilabel")))


def checked_shape(shape: Any, path: str | Path) -> tuple[int, int, int]:
    """(C, H, W) of images that files can hold.

    Raises:
        AttarError: other than 1 or 3 channels.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise AttarError(f"{path} takes images of {channels} channels; image files have 1 or 3")
    return channels, height, width
