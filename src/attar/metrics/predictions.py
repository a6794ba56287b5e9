"""A network's predictions for every image of a test set, small enough to keep beside its scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.files import write_atomically
from attar.losses import kl_divergence
from attar.metrics.accuracy import evaluating, output_of
from attar.metrics.base import Metrics, to_be_scored
from attar.records import read_arrays

# The largest number that float16 holds: a diverged student is still further from its teacher than all others.
LARGEST = 65504.0


@dataclass(frozen=True)
class Predictions:
    """Predictions for N images, in the order of the set.

    Attributes:
        labels: (N,) true classes, int32.
        top: (N, 2) the two classes with the highest logits, best first, int32; (N, 1) where there is only one class.
        confidence: their probabilities, float16, of the same shape.
        kl: (N,) KL(p_teacher || p_student) at temperature 1 in nats, float16; None without a teacher.
    """

    labels: np.ndarray
    top: np.ndarray
    confidence: np.ndarray
    kl: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def predicted(self) -> np.ndarray:
        """(N,) the predicted classes."""
        return self.top[:, 0]

    @property
    def correct(self) -> np.ndarray:
        """(N,) whether the prediction is the label."""
        return self.predicted == self.labels


def evaluate_each(
    net: nn.Module, batches: Iterable[Batch], metrics: Metrics, teacher: nn.Module | None = None
) -> tuple[dict[str, Any], Predictions | None]:
    """Measure a network as `attar.metrics.score` does, and in the same pass keep its prediction for every sample.

    Args:
        net: called with the inputs.
        batches: of the task that the metrics belong to.
        metrics: what to compute; its sums grow.
        teacher: compared with the network on the same inputs.

    Returns:
        The record of the metrics, and the predictions; None where the task keeps none.

    Raises:
        AttarError: there are no batches, or the outputs do not fit the labels.

    >>> from attar.metrics import ClassificationMetrics
    >>> batches = [Batch(torch.eye(4), torch.tensor([0, 1, 2, 2]))]
    >>> scores, each = evaluate_each(nn.Identity(), batches, ClassificationMetrics())
    >>> scores["top1"], each.predicted.tolist(), each.correct.tolist()
    (0.75, [0, 1, 2, 3], [True, True, True, False])
    """
    parts: list[dict[str, Tensor]] = []
    count = 0
    with evaluating(net, *([teacher] if teacher is not None else [])):
        for batch in batches:
            other = None if teacher is None else output_of(teacher, batch.inputs)
            output = output_of(net, batch.inputs)
            metrics.update(output, batch, other)
            parts.append(metrics.each(*to_be_scored(output, batch, other)))
            count += len(batch)
    if not count:
        raise AttarError("there are no samples to measure; give at least one batch")
    arrays = {key: torch.cat([part[key] for part in parts]).cpu().numpy() for key in parts[0]}
    return metrics.record(count), Predictions(**arrays) if arrays else None


def predictions_of(labels: Tensor, logits: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
    """A batch's part of `Predictions`, from class numbers (B,) and logits (B, K)."""
    first = logits.argmax(1, keepdim=True)  # as the scores do it, also where two are equal
    second = logits.scatter(1, first, -torch.inf).argmax(1, keepdim=True)
    top = torch.cat([first, second], 1)[:, : logits.shape[1]]
    found = {
        "labels": labels.int(),
        "top": top.int(),
        "confidence": logits.double().softmax(1).gather(1, top).half(),
    }
    if teacher is not None:
        each = kl_divergence(logits.double(), teacher.double(), temperature=1.0, reduction="none").sum(1)
        found["kl"] = each.clamp(max=LARGEST).half()
    return found


def predictions_file(name: str) -> str:
    """What a network's file is called in the folder of its training: a folder has one main network, and maybe peers.

    >>> predictions_file("student"), predictions_file("teacher"), predictions_file("peer1")
    ('predictions.npz', 'predictions.npz', 'predictions-peer1.npz')
    """
    return "predictions.npz" if name in ("student", "teacher") else f"predictions-{name}.npz"


def save_predictions(predictions: Predictions, path: str | Path) -> None:
    """A compressed .npz, atomically."""
    arrays: dict[str, Any] = {
        field.name: value for field in fields(predictions) if (value := getattr(predictions, field.name)) is not None
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a name, numpy would add its own suffix
            np.savez_compressed(file, **arrays)

    write_atomically(Path(path), write)


def load_predictions(path: str | Path) -> Predictions:
    """What `save_predictions` wrote; nothing in the file is executed.

    Raises:
        AttarError: the file is missing, damaged or not one of ours.
    """
    path = Path(path)
    arrays = read_arrays(path, "delete it to go on without")
    problem = _problem(arrays)
    if problem:
        raise AttarError(f"{path} is not a file of predictions ({problem}); delete it to go on without")
    return Predictions(**arrays)


def _problem(arrays: dict[str, np.ndarray]) -> str:
    """What does not fit; nothing where all does."""
    if not {"labels", "top", "confidence"} <= arrays.keys() <= {"labels", "top", "confidence", "kl"}:
        return "it holds " + ", ".join(sorted(arrays))
    count, kinds = len(arrays["labels"].ravel()), {"labels": "i", "top": "i", "confidence": "f", "kl": "f"}
    for name, array in arrays.items():
        shapes = [(count, 1), (count, 2)] if name in ("top", "confidence") else [(count,)]
        if array.dtype.kind != kinds[name] or array.shape not in shapes:
            return f"{name} is {array.dtype} {array.shape}"
    if arrays["top"].shape != arrays["confidence"].shape or count == 0:
        return "its arrays differ in length"
    return ""
