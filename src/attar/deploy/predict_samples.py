"""Predictions for files of other kinds than classified images, as the task makes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from attar.deploy.package import load
from attar.deploy.trained_run import Trained
from attar.errors import AttarError
from attar.tasks.predictions import INPUTS, PREDICTORS, Request, SamplePrediction, of_array

ARRAYS = (".npz", ".npy")


def predict_samples(trained: Trained, files: Iterable[str | Path], tokens: int = 100) -> Iterator[SamplePrediction]:
    """The prediction for each file, one after the other; an unreadable one carries its error.

    What a file is and what is made of it is the task's: a language model continues the text of a file, a text
    classifier labels each line of it, a counting network counts the objects in an image, a graph network classifies the
    nodes of a .npz graph. Of a .npz with an array "inputs" (N, ...), or a .npy, every other task gives the outputs; the
    inputs are prepared as in training, or, of channels, as in a file of training.

    Args:
        trained: the student of a run.
        files: texts, images or arrays.
        tokens: how many a language model adds, each the most probable one.

    Raises:
        AttarError: the task makes predictions for arrays alone, and a file is none; tokens is below 1.
    """
    if tokens < 1:
        raise AttarError(f"tokens is {tokens}; give 1 or more")
    net, task = load(trained.weights), str(trained.card["task"])
    for file in map(Path, files):
        arrays = file.suffix in ARRAYS
        predictor = PREDICTORS.get((task, arrays), of_array if arrays else None)
        try:
            if predictor is None:
                raise AttarError(f"{file} is no array; task {task} predicts for .npz files with {INPUTS}=(N, ...)")
            yield predictor(Request(net, trained.card, file, tokens))
        except AttarError as error:
            yield SamplePrediction(file, error=str(error))
