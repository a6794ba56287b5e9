"""Predictions for files of other kinds than classified images: texts continued, objects counted, arrays run through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.data.sources.cells import STRIDE, read
from attar.data.sources.channels import parts
from attar.data.sources.graphs import REMEDY, inputs_of
from attar.data.sources.sentences import encoder, named_inputs
from attar.data.sources.text import Tokenizer, tokenizer
from attar.deploy.package import load
from attar.deploy.trained_run import Trained
from attar.errors import AttarError, first_line
from attar.metrics.accuracy import output_of
from attar.metrics.channel import decibels, nmse
from attar.records import damaged, read_arrays, shortened

ARRAYS = (".npz", ".npy")
# Lines of a text that are labelled at a time.
SENTENCES = 32
# The name of the array in a .npz file.
INPUTS = "inputs"


@dataclass(frozen=True)
class SamplePrediction:
    """What a network makes of one file.

    Attributes:
        file: as it was given.
        text: for a person.
        values: the same as plain data.
        error: why the file is unreadable; None where it is not.
    """

    file: Path
    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"file": str(self.file), **({"error": self.error} if self.error is not None else self.values)}


def predict_samples(trained: Trained, files: Iterable[str | Path], tokens: int = 100) -> Iterator[SamplePrediction]:
    """The prediction for each file, one after the other; an unreadable one carries its error.

    A language model continues the text of a file, a text classifier labels each line of it, a counting network counts
    the objects in an image, a graph network classifies the nodes of a .npz graph. Of a .npz with an array "inputs"
    (N, ...), or a .npy, every other task gives the outputs; the inputs are prepared as in training, or, of channels, as
    in a file of training.

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
        try:
            if file.suffix in ARRAYS:
                yield ARRAY_PREDICTORS.get(task, of_array)(net, trained.card, file)
            elif task in PREDICTORS:
                yield PREDICTORS[task](net, trained.card, file, tokens)
            else:
                raise AttarError(f"{file} is no array; task {task} predicts for .npz files with {INPUTS}=(N, ...)")
        except AttarError as error:
            yield SamplePrediction(file, error=str(error))


def of_array(net: nn.Module, card: dict[str, Any], file: Path) -> SamplePrediction:
    """The outputs for an array of prepared samples."""
    outputs = array_outputs(net, torch.from_numpy(read_array(file)), file)
    return SamplePrediction(file, f"outputs {tuple(outputs.shape)}", {"outputs": outputs.tolist()})


def array_outputs(net: nn.Module, inputs: Tensor, file: Path) -> Tensor:
    """A network's outputs for the samples of a file.

    Raises:
        AttarError: they do not fit the network.
    """
    dtype = getattr(net, "input_dtype", None) or next(net.parameters()).dtype
    try:
        return run(net, inputs.to(dtype))
    except (RuntimeError, IndexError) as error:
        raise AttarError(f"{file} holds {tuple(inputs.shape)}, which does not fit: {first_line(error)}") from None


def counted_array(net: nn.Module, card: dict[str, Any], file: Path) -> SamplePrediction:
    """How many objects each of the prepared images shows; the density maps themselves are large."""
    counts = array_outputs(net, torch.from_numpy(read_array(file)), file).flatten(1).sum(1).tolist()
    return SamplePrediction(file, ", ".join(f"{count:.1f}" for count in counts), {"counts": counts})


def reconstructed(net: nn.Module, card: dict[str, Any], file: Path) -> SamplePrediction:
    """Channels after the codeword, real and imaginary parts at the power they came with, and the NMSE of each in dB."""
    channels, scale = parts(read_array(file), f"{INPUTS} of {file}")
    if list(channels.shape[1:]) != card["input_shape"]:
        raise AttarError(
            f"{file} holds channels {tuple(channels.shape[1:])}, the network takes {tuple(card['input_shape'])}; give "
            "channels of as many delays and antennas as in training"
        )
    outputs = array_outputs(net, channels, file)
    errors = nmse(outputs, channels)
    text = f"NMSE {decibels(float(errors.mean())):.2f} dB over {len(errors)} channels"
    found = outputs * scale.to(outputs)[:, None, None, None]
    return SamplePrediction(file, text, {"nmse": [decibels(one) for one in errors.tolist()], "outputs": found.tolist()})


def read_array(file: Path) -> np.ndarray:
    """The samples in a .npz or .npy file; nothing in it is executed.

    Raises:
        AttarError: it is missing, damaged, without "inputs", or holds NaN.
    """
    remedy = f"give a .npy file, or a .npz with {INPUTS}=(N, ...)"
    arrays = read_arrays(file, remedy)
    if INPUTS not in arrays:
        raise damaged(file, f"no array {INPUTS!r}", remedy)
    found = arrays[INPUTS]
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise AttarError(f"{file} holds NaN or infinity; repair or remove it")
    if not found.ndim or not len(found):
        raise AttarError(f"{file} holds no samples; give {INPUTS}=(N, ...)")
    return found


def continued(net: nn.Module, card: dict[str, Any], file: Path, tokens: int) -> SamplePrediction:
    """A text and the most probable tokens after it, one by one; the network sees as many as a block of training has.

    Raises:
        AttarError: the file is missing, no UTF-8, or empty.
    """
    text = read_utf8(file)
    vocabulary: Tokenizer = tokenizer(str(card["tokenizer"]))
    ids, seen = vocabulary.encode(text), card["input_shape"][0]
    if not ids:
        raise AttarError(f"{file} is empty; give it some text to go on from")
    added: list[int] = []
    for _ in range(tokens):
        window = torch.tensor([(ids + added)[-seen:]])
        added.append(int(run(net, window)[0, -1].argmax()))
    found = vocabulary.decode(added)
    return SamplePrediction(file, found, {"continuation": found})


def labelled(net: nn.Module, card: dict[str, Any], file: Path, tokens: int) -> SamplePrediction:
    """The class of every line of a text, with its probability; of pairs a tab divides the two sentences.

    Raises:
        AttarError: the file is missing, no UTF-8, or a line is empty or holds no pair where the network takes pairs.
    """
    lines = read_utf8(file).splitlines()
    if not lines:
        raise AttarError(f"{file} holds no sentences; write one a line")
    pairs, rows = bool(card.get("pairs")), [line.split("\t") for line in lines]
    for number, row in enumerate(rows, 1):
        if len(row) != 1 + pairs or not all(part.strip() for part in row):
            wanted = "two sentences with a tab between them" if pairs else "one sentence, without a tab"
            raise AttarError(f"{file}, line {number}: expected {wanted}, got {shortened(lines[number - 1])}")
    vocabulary, found = encoder(str(card["tokenizer"])), list[dict[str, Any]]()
    firsts, seconds = ([row[place].strip() for row in rows] if place <= pairs else [] for place in (0, 1))
    ids, types = vocabulary.encode(firsts, seconds, int(card["max_length"]))
    for start in range(0, len(lines), SENTENCES):
        part = slice(start, start + SENTENCES)
        longest = max(map(len, ids[part]))
        inputs = named_inputs(ids[part], types[part] if pairs else [], longest, vocabulary.padding)
        for line, row in zip(lines[part], run(net, inputs).double().softmax(1), strict=True):
            best = int(row.argmax())
            found.append({"sentence": line, "label": card["classes"][best], "probability": float(row[best])})
    text = "\n".join(f"{one['label']} {100 * one['probability']:.1f}  {one['sentence']}" for one in found)
    return SamplePrediction(file, "\n" + text, {"sentences": found})


def read_utf8(file: Path) -> str:
    """A text.

    Raises:
        AttarError: the file is missing or no UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AttarError(f"{file} cannot be read as UTF-8 text ({first_line(error)})") from None


def counted(net: nn.Module, card: dict[str, Any], file: Path, tokens: int) -> SamplePrediction:
    """How many objects an image shows; what stands over a multiple of 8, at the right and below, is cut off."""
    if not file.is_file():
        raise AttarError(f"{file} does not exist")
    pixels = torch.from_numpy(read(file).copy()).permute(2, 0, 1)[None].float() / 255
    height, width = (side // STRIDE * STRIDE for side in pixels.shape[2:])
    mean, std = (torch.tensor(card[key])[:, None, None] for key in ("mean", "std"))
    count = float(run(net, ((pixels - mean) / std)[..., :height, :width]).sum())
    return SamplePrediction(file, f"{count:.1f}", {"count": count})


@torch.no_grad()
def run(net: nn.Module, inputs: Inputs) -> Tensor:
    """A network's output, outside training."""
    return output_of(net, inputs)


def nodes_of(net: nn.Module, card: dict[str, Any], file: Path) -> SamplePrediction:
    """The class of every node of a graph, with its probability; labels and sets in the file are not read.

    Raises:
        AttarError: the file is damaged, or its features are not as many as the network takes.
    """
    features, edges, _ = inputs_of(read_arrays(file, REMEDY), file, bool(card["normalise"]))
    if features.shape[1] != card["input_shape"][1]:
        raise AttarError(
            f"nodes of {file} have {features.shape[1]} features, the network takes {card['input_shape'][1]}"
        )
    probabilities, classes = run(net, {"features": features[None], "edge_index": edges[None]})[0].softmax(1).max(1)
    names = card["classes"] or [str(number) for number in range(card["outputs"])]
    found = [names[number] for number in classes.tolist()]
    sure = [round(one, 4) for one in probabilities.tolist()]
    lines = [f"{number}  {name}  {100 * p:.1f}" for number, (name, p) in enumerate(zip(found, sure, strict=True))]
    return SamplePrediction(file, "\n".join([f"{len(found)} nodes", *lines]), {"classes": found, "probabilities": sure})


# What a task makes of files that are no arrays.
PREDICTORS: dict[str, Callable[[nn.Module, dict[str, Any], Path, int], SamplePrediction]] = {
    "language": continued,
    "text": labelled,
    "density": counted,
}
# What a task makes of arrays, where it is more than the outputs.
ARRAY_PREDICTORS: dict[str, Callable[[nn.Module, dict[str, Any], Path], SamplePrediction]] = {
    "density": counted_array,
    "graph": nodes_of,
    "channel": reconstructed,
}
