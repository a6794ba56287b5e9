"""From kept predictions: reliability of the confidence, confused classes, images on which two networks differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attar.errors import AttarError
from attar.metrics.calibration import BINS
from attar.metrics.predictions import Predictions


def reliability_bins(predictions: Sequence[Predictions], bins: int = BINS) -> list[tuple[int, float, float]]:
    """The reliability diagram of one network, its seeds taken together.

    Args:
        predictions: one a seed.
        bins: equally wide ones; a confidence on a boundary belongs to the bin below, as in `bin_sums`.

    Returns:
        For each bin the samples, their mean confidence and the share of correct ones; zeros where it is empty.

    >>> three = Predictions(np.array([0, 1, 1]), np.array([[0], [1], [0]]), np.array([[0.75], [0.75], [0.25]]))
    >>> reliability_bins([three], bins=2)
    [(1, 0.25, 0.0), (2, 0.75, 1.0)]
    """
    confidence = np.concatenate([one.confidence[:, 0] for one in predictions]).astype(np.float64)
    correct = np.concatenate([one.correct for one in predictions])
    place = np.clip(np.ceil(np.nan_to_num(confidence) * bins).astype(int) - 1, 0, bins - 1)
    sums = [np.bincount(place, weights, bins) for weights in (None, np.nan_to_num(confidence), correct)]
    return [(int(n), float(c / n), float(k / n)) if n else (0, 0.0, 0.0) for n, c, k in zip(*sums, strict=True)]


def confusions(predictions: Sequence[Predictions]) -> dict[tuple[int, int], float]:
    """How often each class is taken for another: (truth, predicted) to images, the mean over the seeds; most first.

    Args:
        predictions: one a seed.

    >>> confusions([Predictions(np.array([3, 3, 3, 1]), np.array([[5], [5], [1], [1]]), np.ones((4, 1)))])
    {(3, 5): 2.0, (3, 1): 1.0}
    """
    pairs: dict[tuple[int, int], float] = {}
    for one in predictions:
        wrong = np.stack([one.labels, one.predicted], 1)[~one.correct]
        for (truth, predicted), count in zip(*np.unique(wrong, axis=0, return_counts=True), strict=True):
            key = int(truth), int(predicted)
            pairs[key] = pairs.get(key, 0.0) + int(count) / len(predictions)
    return dict(sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0])))


def disagreements(student: Predictions, teacher: Predictions, count: int) -> list[int]:
    """The images that the two classify differently, the furthest apart (by KL) first, at most so many.

    Args:
        student: with its `kl` to this teacher; without one, they come by the two confidences.
        teacher: of the same images.
        count: images.

    >>> labels, sure = np.array([0, 1, 2]), np.ones((3, 1))
    >>> student = Predictions(labels, np.array([[0], [2], [1]]), sure, kl=np.array([0.0, 1.5, 3.0]))
    >>> disagreements(student, Predictions(labels, np.array([[0], [1], [2]]), sure), 24)
    [2, 1]
    """
    apart = student.confidence[:, 0] + teacher.confidence[:, 0] if student.kl is None else student.kl
    order = np.argsort(-np.nan_to_num(apart.astype(np.float64), nan=np.inf), kind="stable")
    differ = student.predicted != teacher.predicted
    return [int(place) for place in order if differ[place]][:count]


@dataclass(frozen=True)
class ClassScore:
    """How one class fares.

    Attributes:
        precision: of the images given this class, the share that is of it; None where none is given it.
        recall: of the images of this class, the share that is given it; None where there is none.
        f1: 2 TP / (2 TP + FP + FN); None where the class is neither present nor given.
        count: images of this class.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    count: int


def confusion_counts(predictions: Predictions, classes: int) -> np.ndarray:
    """(K, K) counts of images: true classes down, predicted ones across.

    Raises:
        AttarError: the predictions have other classes.

    >>> confusion_counts(Predictions(np.array([0, 1, 1]), np.array([[0], [1], [0]]), np.ones((3, 1))), 2).tolist()
    [[1, 0], [1, 1]]
    """
    numbers = np.concatenate([predictions.labels, predictions.predicted])
    if not 0 <= numbers.min() <= numbers.max() < classes:
        raise AttarError(f"predictions have classes {numbers.min()} to {numbers.max()}, the data {classes} classes")
    pairs = predictions.labels.astype(np.int64) * classes + predictions.predicted
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_scores(table: np.ndarray) -> list[ClassScore]:
    """Precision, recall and F1 of every class from its counts (K, K).

    >>> class_scores(np.array([[3, 1], [0, 4]]))[0]
    ClassScore(precision=1.0, recall=0.75, f1=0.8571428571428571, count=4)
    """

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    hits, present, given = (array.tolist() for array in (table.diagonal(), table.sum(1), table.sum(0)))
    return [
        ClassScore(share(hit, of), share(hit, out), share(2 * hit, of + out), out)
        for hit, out, of in zip(hits, present, given, strict=True)
    ]
