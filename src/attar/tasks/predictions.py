"""What a task makes of a user's files: texts continued, objects counted, arrays run through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.errors import AttarError, first_line
from attar.metrics.accuracy import output_of
from attar.records import damaged, read_arrays

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


class Request(NamedTuple):
    """What a predictor is called with.

    Attributes:
        net: the student, in eval mode.
        card: the JSON beside its weights.
        file: whose content it predicts for.
        tokens: how many a language model adds.
    """

    net: nn.Module
    card: dict[str, Any]
    file: Path
    tokens: int = 100


Predictor = TypeVar("Predictor", bound=Callable[[Request], SamplePrediction])
# By task, and whether files are arrays (.npz, .npy).
PREDICTORS: dict[tuple[str, bool], Callable[[Request], SamplePrediction]] = {}


def register_predictor(task: str, *, arrays: bool = False) -> Callable[[Predictor], Predictor]:
    """Decorator that enters what `attar predict` makes of a file for a task.

    Args:
        task: its name.
        arrays: whether it is for .npz and .npy files. Without one of these a task gives the outputs for an array
            "inputs" (N, ...) of prepared samples.

    >>> @register_predictor("lengths")
    ... def length(request):
    ...     return SamplePrediction(request.file, values={"letters": len(read_utf8(request.file))})
    >>> PREDICTORS.pop(("lengths", False)) is length
    True
    """

    def enter(predictor: Predictor) -> Predictor:
        PREDICTORS[task, arrays] = predictor
        return predictor

    return enter


def of_array(request: Request) -> SamplePrediction:
    """The outputs for an array of prepared samples."""
    outputs = array_outputs(request, torch.from_numpy(read_array(request.file)))
    return SamplePrediction(request.file, f"outputs {tuple(outputs.shape)}", {"outputs": outputs.tolist()})


def array_outputs(request: Request, inputs: Tensor) -> Tensor:
    """A network's outputs for the samples of a file.

    Raises:
        AttarError: they do not fit the network.
    """
    net, file = request.net, request.file
    dtype = getattr(net, "input_dtype", None) or next(net.parameters()).dtype
    try:
        return run(net, inputs.to(dtype))
    except (RuntimeError, IndexError) as error:
        raise AttarError(f"{file} holds {tuple(inputs.shape)}, which does not fit: {first_line(error)}") from None


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


def read_utf8(file: Path) -> str:
    """A text, without a byte-order mark.

    Raises:
        AttarError: the file is missing or no UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AttarError(f"{file} cannot be read as UTF-8 text ({first_line(error)})") from None


@torch.no_grad()
def run(net: nn.Module, inputs: Inputs) -> Tensor:
    """A network's output, outside training."""
    return output_of(net, inputs)
