"""JSON records and arrays read back: a file that is damaged, or that somebody else wrote, is an error of one line."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from attar.errors import AttarError

T = TypeVar("T")
# The largest whole number that a record holds: what 64 bits do.
LARGEST = 2**63 - 1


def read_json(path: Path, remedy: str) -> Any:
    """The value in a JSON file.

    Args:
        path: the file.
        remedy: what to do about a damaged one, the end of the message.

    Raises:
        AttarError: the file is missing, cannot be read, is not UTF-8 or not JSON, or is nested too deep.
    """
    return parse_json(_text(path, remedy), path, remedy)


def read_json_lines(path: Path, remedy: str) -> list[dict[str, Any]]:
    """The objects in a file that has one a line.

    Raises:
        AttarError: as `read_json`, or a line is no object.
    """
    records = []
    for number, line in enumerate(_text(path, remedy).splitlines(), 1):
        record = parse_json(line, path, remedy)
        if not isinstance(record, dict):
            raise damaged(path, f"line {number} is no object", remedy)
        records.append(record)
    return records


def parse_json(text: str, path: Path, remedy: str) -> Any:
    """The value of a JSON text out of a file."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise damaged(path, "it is no JSON", remedy) from None


def read_arrays(path: Path, remedy: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, or that of an .npy file as "inputs"; nothing in it is executed.

    Raises:
        AttarError: the file is missing, cannot be read or is damaged.
    """
    try:
        with path.open("rb") as file:
            held = np.load(file, allow_pickle=False)
            return {"inputs": held} if isinstance(held, np.ndarray) else {name: held[name] for name in held.files}
    except OSError as error:
        raise damaged(path, error.strerror or type(error).__name__, remedy) from None
    except Exception as error:  # numpy, zipfile and zlib have a dozen types for damaged files
        raise damaged(path, type(error).__name__, remedy) from None


def damaged(path: Path, reason: str, remedy: str) -> AttarError:
    """The error of a damaged record.

    >>> damaged(Path("run/scores.json"), "it is no JSON", "delete it")
    AttarError('cannot read run/scores.json (it is no JSON); delete it')
    """
    return AttarError(f"cannot read {path} ({reason}); {remedy}")


def _text(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise damaged(path, error.strerror or type(error).__name__, remedy) from None
    except ValueError:
        raise damaged(path, "it is not UTF-8", remedy) from None


def from_record(cls: type[T], record: Any, limits: Mapping[str, tuple[float, float]] | None = None) -> T:
    """A dataclass from a JSON object, every field of its type.

    Args:
        cls: a dataclass whose fields are int, float, str, bool, or tuples or optionals of them.
        record: the object.
        limits: the least and the largest value of a field, or of each entry of a tuple; NaN is outside any.

    Raises:
        ValueError: a field is missing or unknown, of another type or outside its limits; it names the field.

    >>> @dataclasses.dataclass
    ... class Size:
    ...     count: int
    ...     share: float = 1.0
    >>> from_record(Size, {"count": 3, "share": 0.5}, {"share": (0, 1)})
    Size(count=3, share=0.5)
    >>> from_record(Size, {"count": "3"})
    Traceback (most recent call last):
    ValueError: count is '3'
    """
    if not isinstance(record, dict):
        raise ValueError(f"no {cls.__name__}: {shortened(record)}")
    hints = get_type_hints(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    if strange := (needed - record.keys()) | (record.keys() - {field.name for field in fields}):
        raise ValueError(f"{min(strange)} is {'missing' if strange & needed else 'unknown'}")
    found = {}
    for name, value in record.items():
        low, high = (limits or {}).get(name, (-math.inf, math.inf))
        if not _is(value, hints[name]) or not all(low <= one <= high for one in _numbers(value, name, limits)):
            raise ValueError(f"{name} is {shortened(value)}")
        found[name] = tuple(value) if isinstance(value, list) else value
    return cls(**found)


def _is(value: Any, hint: Any) -> bool:
    """Whether a value of a record is of a type."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is(value, one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_is(one, get_args(hint)[0]) for one in value)
    if hint is type(None):
        return value is None
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint) and not _enormous(value)


def _enormous(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > LARGEST


def _numbers(value: Any, name: str, limits: Mapping[str, tuple[float, float]] | None) -> list[float]:
    """The numbers of a field that has limits."""
    if not limits or name not in limits:
        return []
    return [one for one in (value if isinstance(value, list) else [value]) if one is not None]


def shortened(value: Any) -> str:
    """A value as it is shown in a message."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
