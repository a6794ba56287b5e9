"""Labels for image files, from an exported .onnx with onnxruntime, Pillow and numpy alone, or from a run with torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attar.decoding import require_pillow
from attar.deploy.image_files import centre, image_files, read_pixels
from attar.errors import AttarError
from attar.extras import require

BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """What a model says about one image file.

    Attributes:
        file: as it was given, or found in a folder.
        labels: (class, probability) of the most probable classes, the best first; none where the file is unreadable.
        error: why it is unreadable; None where it is not.
    """

    file: Path
    labels: tuple[tuple[str, float], ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        if self.error is not None:
            return {"file": str(self.file), "error": self.error}
        return {"file": str(self.file), "labels": [{"label": name, "probability": p} for name, p in self.labels]}


@dataclass(frozen=True)
class Classifier:
    """A model that is ready to look at images.

    Attributes:
        classes: their names, in the order of the logits.
        image_shape: (C, H, W).
        read_size: side in pixels that files are read at; the centre is cut out of that.
        mean: per channel in 0..1 units; None where the model normalises by itself.
        std: as mean.
        run: from images (N, C, H, W), uint8 without mean and normalised float32 with it, to logits (N, K).
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    read_size: int
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    run: Callable[[np.ndarray], np.ndarray]

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """(N, K) probabilities of images as bytes (N, C, H, W)."""
        images = pixels
        if self.mean is not None and self.std is not None:
            # In byte units, in the same order as in training.
            mean, std = (255 * np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
            images = (pixels.astype(np.float32) - mean) / std
        logits = self.run(images).astype(np.float64)
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        return exponentials / exponentials.sum(1, keepdims=True)


def open_classifier(path: str | Path) -> Classifier:
    """A model from an exported .onnx file, a folder that holds student.onnx, or a run.

    Raises:
        AttarError: it is missing, damaged or not ours, or a package is not installed.
    """
    path = Path(path)
    file = path / "student.onnx" if path.is_dir() and (path / "student.onnx").is_file() else path
    return _open_onnx(file) if file.suffix == ".onnx" else _open_run(file)


def predict(model: str | Path, images: Iterable[str | Path], top: int = 3) -> Iterator[Prediction]:
    """The most probable classes of image files, one after the other; an unreadable one is said to be so.

    Args:
        model: see `open_classifier`.
        images: files, or folders that are searched for images.
        top: how many classes, at most all.

    Raises:
        AttarError: the model cannot be used, a folder holds no image, or top is below 1.
    """
    if top < 1:
        raise AttarError(f"top is {top}; give 1 or more classes")
    require_pillow()
    classifier = open_classifier(model)
    files = image_files(images)
    for start in range(0, len(files), BATCH):
        yield from _predict(classifier, files[start : start + BATCH], top)


def _predict(classifier: Classifier, files: list[Path], top: int) -> list[Prediction]:
    channels, height, width = classifier.image_shape
    found: dict[Path, np.ndarray] = {}
    errors: dict[Path, str] = {}
    for file in files:
        try:
            found[file] = centre(read_pixels(file, channels, classifier.read_size), (height, width))
        except AttarError as error:
            errors[file] = str(error)
    said: dict[Path, tuple[tuple[str, float], ...]] = {}
    if found:
        probabilities = classifier.probabilities(np.stack(list(found.values())))
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        for file, row, order in zip(found, probabilities, best, strict=True):
            said[file] = tuple((classifier.classes[number], float(row[number])) for number in order)
    return [Prediction(file, said.get(file, ()), errors.get(file)) for file in files]


def _open_onnx(path: Path) -> Classifier:
    ort = require("onnxruntime", path.name, "export")
    if not path.is_file():
        raise AttarError(f"{path} does not exist; `attar export RUN onnx` writes one")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime has a type for every reason
        raise AttarError(f"onnxruntime cannot read {path}; export the run again") from None
    said = session.get_modelmeta().custom_metadata_map
    if missing := [key for key in ("classes", "image_size", "read_size", "mean", "std") if key not in said]:
        raise AttarError(f"{path} does not say its {missing[0]}; it was not written by `attar export`")
    (node,) = session.get_inputs()
    baked = node.type == "tensor(uint8)"
    mean, std, (height, width) = (json.loads(said[key]) for key in ("mean", "std", "image_size"))
    return Classifier(
        tuple(json.loads(said["classes"])),
        _checked((len(mean), height, width), path),
        json.loads(said["read_size"]),
        None if baked else tuple(mean),
        None if baked else tuple(std),
        lambda images: session.run(None, {node.name: images})[0],
    )


def _open_run(path: Path) -> Classifier:
    import torch

    from attar.deploy.package import load
    from attar.deploy.trained_run import find_trained

    trained = find_trained(path)
    net, card = load(trained.weights), trained.card

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(images)).numpy()

    shape = _checked(tuple(card["image_shape"]), path)
    size = card.get("data_options", {}).get("resize_size") or min(shape[1:])
    return Classifier(tuple(card["classes"]), shape, size, tuple(card["mean"]), tuple(card["std"]), run)


def _checked(shape: Any, path: Path) -> tuple[int, int, int]:
    if shape[0] not in (1, 3):
        raise AttarError(f"{path} takes images of {shape[0]} channels; image files have 1 or 3")
    return shape
