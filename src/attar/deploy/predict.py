"""Labels for image files: from an exported graph without torch where its format allows that, or from a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from attar.decoding import require_pillow
from attar.deploy.classifier import Classifier, open_run
from attar.deploy.formats import FORMATS
from attar.deploy.image_files import centre, image_files, read_pixels
from attar.errors import AttarError

BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image file.

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


def open_classifier(path: str | Path) -> Classifier:
    """A model from an exported file, the folder of an export, or a run.

    Of a folder with several files the one is taken that is exact and needs the least: a graph before weights, which
    are passed over without torch.

    Raises:
        AttarError: it is missing, damaged or not ours, or a package is not installed.
    """
    path = Path(path)
    kinds = [kind for kind in map(FORMATS.__getitem__, FORMATS) if kind.classifier]
    if path.is_dir():
        with_torch = find_spec("torch") is not None
        inside = [kind for kind in kinds if (path / kind.file).is_file() and (kind.graph or with_torch)]
        kinds = sorted(inside, key=lambda kind: (not kind.exact, not kind.graph))
        file = path / kinds[0].file if kinds and kinds[0].graph else path
    else:
        # The longest suffix: one may end in another.
        fitting = [kind for kind in kinds if path.name.endswith(kind.suffix)]
        kinds, file = sorted(fitting, key=lambda kind: -len(kind.suffix)), path
    opened = kinds[0].classifier if kinds else None
    return opened(file) if opened else open_run(path)


def of_run(model: str | Path, files: Iterable[str | Path], top: int = 3, tokens: int = 100) -> Iterator[Any]:
    """What a model makes of files, whatever its task: labels of images, or a `SamplePrediction` each.

    Args:
        model: see `open_classifier`; of other tasks than classification a run's folder or its weights.
        files: images, texts or arrays.
        top: how many classes a classifier gives.
        tokens: how many tokens a language model adds.

    Raises:
        AttarError: the model cannot be used, or a file does not fit it.
    """
    path = Path(model)
    if path.suffix == ".safetensors" or (path.is_dir() and not any(path.glob("student.*onnx"))):
        from attar.deploy.predict_samples import predict_samples
        from attar.deploy.trained_run import find_trained

        trained = find_trained(path)
        if "input_shape" in trained.card:
            return predict_samples(trained, files, tokens)
    return predict(model, files, top)


def predict(model: str | Path, images: Iterable[str | Path], top: int = 3) -> Iterator[Prediction]:
    """The most probable classes of image files, one after the other; an unreadable one carries its error.

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
    yield from labelled(open_classifier(model), images, top)


def labelled(classifier: Classifier, images: Iterable[str | Path], top: int = 3) -> Iterator[Prediction]:
    """The same by a classifier that is open."""
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
    labels: dict[Path, tuple[tuple[str, float], ...]] = {}
    if found:
        probabilities = classifier.probabilities(np.stack(list(found.values())))
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        for file, row, order in zip(found, probabilities, best, strict=True):
            labels[file] = tuple((classifier.classes[number], float(row[number])) for number in order)
    return [Prediction(file, labels.get(file, ()), errors.get(file)) for file in files]


def main(arguments: list[str] | None = None) -> int:
    """`python -m attar.deploy.predict FILE.onnx IMAGE...`: a line an image, with onnxruntime, numpy and Pillow alone.

    Returns:
        0, or 1 where the model cannot be used, or 2 where an image cannot be read.
    """
    parser = argparse.ArgumentParser(
        "python -m attar.deploy.predict", description="Label images with an exported graph."
    )
    parser.add_argument("model", help="an exported .onnx file, or the folder of an export")
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument("--top", type=int, default=3, help="how many classes an image gets")
    given = parser.parse_args(arguments)
    try:
        found = list(predict(given.model, given.images, given.top))
    except AttarError as error:
        print(f"attar: {error}", file=sys.stderr)
        return 1
    for one in found:
        labels = "  ".join(f"{name} {100 * share:.1f}" for name, share in one.labels)
        print(f"attar: {one.error}" if one.error else f"{one.file}  {labels}", file=sys.stderr if one.error else None)
    return 2 if any(one.error for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
