"""Whether a network's classes are those of the data, by name or by what it predicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attar.errors import AttarError

# Classes are taken for exchanged where renaming them makes this share of their samples right, and so many times as
# many as before, of at least so many samples.
RENAMED, TIMES, SAMPLES = 0.5, 3.0, 10


def class_rows(theirs: Sequence[str], ours: Sequence[str], source: str) -> list[int] | None:
    """The rows of a network's classifier in the order of the data's classes; None where they are in that order.

    Names that only number the classes ("0", "1", ...) on either side decide nothing, unless both sides have the same
    ones: folders 0 to 10 are read in the order of text (0, 1, 10, 2), a table's labels in that of numbers.

    Args:
        theirs: the network's class names, in the order of its logits.
        ours: the data's.
        source: where the network is from, for the message.

    Raises:
        AttarError: the network lacks a class of the data, or has others besides.

    >>> class_rows(["cat", "dog", "emu"], ["emu", "cat", "dog"], "teacher.pth")
    [2, 0, 1]
    >>> class_rows(["0", "1", "2"], ["cat", "dog", "emu"], "teacher.pth"), class_rows(["0", "2", "1"], list("012"), "")
    (None, [0, 2, 1])
    """
    if list(theirs) == list(ours):
        return None
    if sorted(theirs) != sorted(ours) and (numbered(theirs) or numbered(ours)):
        return None
    if len(set(theirs)) != len(theirs) or len(set(ours)) != len(ours):
        return None
    lacking = [name for name in ours if name not in theirs]
    others = [name for name in theirs if name not in ours]
    if lacking or others:
        parts = [f"no {lacking[0]!r}"] * bool(lacking) + [f"{others[0]!r}, which the data lack"] * bool(others)
        raise AttarError(
            f"{source} was trained on other classes than the data have ({len(theirs)} and {len(ours)}): it has "
            f"{' and '.join(parts)}; give weights of the data's classes, or say which rows of its classifier to use "
            "(teacher.classes=[...], student.classes=[...])"
        )
    return [list(theirs).index(name) for name in ours]


def recorded_classes(name: str, weights: str | Path | None) -> list[str] | None:
    """The class names in the JSON beside weights that Attar saved, in an ONNX file that it exported, or in a Hugging
    Face folder; None without them.

    Args:
        name: of the network, as `create_model` takes it.
        weights: a file, "pretrained" or None.
    """
    if name.startswith("onnx/"):
        from attar.models.libraries.onnx_model import OnnxNet, recorded

        return _strings(recorded(OnnxNet(name.removeprefix("onnx/")).facts, "classes"))
    folder = name.removeprefix("hf/") if name.startswith("hf/") and weights in (None, "pretrained") else None
    file = Path(folder, "config.json") if folder else Path(weights or "").with_suffix(".json") if weights else None
    try:
        held = json.loads(file.read_text(encoding="utf-8")) if file else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(held, dict):
        return None
    if folder:
        labels = held.get("id2label")
        named = [labels.get(str(number)) for number in range(len(labels))] if isinstance(labels, dict) else None
    else:
        named = held.get("classes") if "attar" in held else None
    return _strings(named)


def _strings(named: Any) -> list[str] | None:
    return named if isinstance(named, list) and named and all(isinstance(one, str) for one in named) else None


def numbered(names: Sequence[str]) -> bool:
    """Whether names only number the classes.

    >>> numbered(["0", "1"]), numbered(["LABEL_0", "LABEL_1"]), numbered(["cat", "dog"])
    (True, True, False)
    """
    return all(name.removeprefix("LABEL_") == str(number) for number, name in enumerate(names))


def exchanged(table: Tensor) -> list[int]:
    """The classes that a network's predictions name in another order than the labels do; none where no order fits.

    Args:
        table: (K, K) counts, labels down, predictions across.

    >>> exchanged(torch.tensor([[20, 0, 0], [1, 0, 19], [0, 18, 2]]))
    [1, 2]
    """
    table = table.cpu()
    if torch.equal(table.diagonal(), table.amax(1)):
        return []

    from scipy.optimize import linear_sum_assignment  # half a second of import that few networks need

    rows, columns = linear_sum_assignment(table.numpy(), maximize=True)
    moved = [int(row) for row, column in zip(rows, columns, strict=True) if row != column]
    if not moved:
        return []
    count = float(table[moved].sum())
    renamed = float(sum(table[row, columns[row]] for row in moved))
    identical = float(table.diagonal()[moved].sum())
    clear = count >= SAMPLES and renamed >= RENAMED * count and renamed >= TIMES * identical
    return moved if clear else []


def are_probabilities(outputs: Tensor) -> bool:
    """Whether a network's outputs (B, K) are probabilities: no row is negative anywhere and each sums to 1.

    >>> are_probabilities(torch.tensor([[2.0, -1.0]]).softmax(1)), are_probabilities(torch.tensor([[2.0, -1.0]]))
    (True, False)
    """
    outputs = outputs.float()
    sums = outputs.sum(1)
    return bool((outputs >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
