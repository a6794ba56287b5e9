"""Eight bits within a budget of points: post-training quantisation first, then quantisation-aware distillation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attar.data import ImageSet
from attar.deploy.parity import measured
from attar.deploy.quantisation_aware import trained
from attar.deploy.student import Student
from attar.errors import AttarError
from attar.models.graphs.onnx import described, open_onnx, to_onnx
from attar.models.graphs.quantise import METHODS, quantised

EPOCHS = 4


def fitted(student: Student, float_model: Callable[[Student], Any]) -> tuple[Any, str]:
    """An 8-bit model that loses at most `student.within` points of the primary measure on the validation images.

    Args:
        student: with validation images; without them on which nothing is chosen, the calibration images decide.
        float_model: makes the float ONNX model of a student.

    Returns:
        The first model within the budget, and how it was made.

    Raises:
        AttarError: none of them is; the message has the loss of each.
    """
    assert student.within is not None
    chosen_by = student.val or student.calibration
    measure = student.task.metrics().primary
    whole = measured(student.net, chosen_by, lambda inputs: inputs, student.task.metrics())[1]
    tried: list[str] = []
    for how, model in candidates(student, float_model):
        found = score(model, student, chosen_by)
        lost = measure.scale * (whole - found if measure.higher else found - whole)
        if lost <= student.within:
            return model, how
        tried.append(f"{how} {lost:.2f}")
    raise AttarError(
        f"onnx-int8 is not within {student.within:g} {measure.points} of the student on {len(chosen_by)} validation "
        f"images; lost: {', '.join(tried)}; the file was not kept. Allow more, or train a wider student"
    )


def candidates(student: Student, float_model: Callable[[Student], Any]) -> Iterator[tuple[str, Any]]:
    """8-bit models, the cheapest first, with how each was made."""
    model, (net, _) = student.once(float_model), student.of_images
    assert isinstance(student.calibration, ImageSet)
    for method in METHODS:
        yield f"post-training ({method})", quantised(model, net, student.calibration, method)
    train = student.train or student.calibration
    assert isinstance(train, ImageSet)
    better_ones = trained(student.net, train, student.calibration, EPOCHS, student.task.imitate(1.0))
    for epoch, better in enumerate(better_ones, 1):
        other = replace(student, net=better)
        plural = "" if epoch == 1 else "s"
        how = f"{epoch} epoch{plural} of quantisation-aware distillation"
        yield how, quantised(to_onnx(other.deployed, other.example), other.of_images[0], student.calibration)


def score(model: Any, student: Student, samples: Any) -> float:
    """The primary measure of an 8-bit model."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(described(model, {}))
        return measured(open_onnx(file), samples, student.prepared, student.task.metrics())[1]
