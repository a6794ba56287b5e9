"""What a run chose by timing, in environment.json: written once, read back on resume, in every process, on replay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from attar.accel.engine_spec import EngineSpec
from attar.accel.runtime import Runtime, environment
from attar.files import write_json
from attar.profiling import threads
from attar.records import damaged, read_json, shortened

# Absent from the records of earlier versions, or from a run that stopped before it chose the teachers' engines.
OPTIONAL = ("compiled", "threads", "jobs", "teacher_threads")
REMEDY = "delete it, and what was chosen by timing is chosen again"


def _count(value: Any) -> bool:
    return value is None or (type(value) is int and 0 < value < 2**16)


# Which values a choice may have; None where an earlier version did not record it.
CHOICES: dict[str, Callable[[Any], bool]] = {
    "precision": lambda value: value in ("float32", "bfloat16"),
    "reason": lambda value: isinstance(value, str),
    "compiled": lambda value: value is None or isinstance(value, bool),
    "threads": _count,
    "jobs": _count,
    "teacher_threads": _count,
    "teachers": lambda value: value is None or isinstance(value, list),
}


def write_runtime(folder: Path, runtime: Runtime, engines: bool) -> None:
    """Write the choices of a run, and what it runs on.

    Args:
        folder: the run's.
        runtime: the choices.
        engines: whether the teachers' engines are among them; they are chosen later than the precision.
    """
    chosen: dict[str, Any] = {key: value for key, value in vars(runtime).items() if key not in ("device", "teachers")}
    if engines:
        chosen["teachers"] = [spec.to_json() for spec in runtime.teachers]
    write_json(folder / "environment.json", {"runtime": chosen, **environment()})


def read_runtime(folder: Path, device: torch.device) -> tuple[Runtime | None, bool]:
    """The choices of a run on this process's device, None where there are none, and whether engines are among them.

    Raises:
        AttarError: the record is damaged, or an engine is of another version of attar.
    """
    record = folder / "environment.json"
    if not record.exists():
        return None, False
    tree = read_json(record, REMEDY)
    chosen = _checked(tree, record)
    engines = tuple(EngineSpec.from_json(entry) for entry in chosen.get("teachers", ()))
    # Earlier versions recorded threads among the choices only where they were not all that torch had.
    all_threads = tree.get("threads")
    optional = {"threads": all_threads, "teacher_threads": all_threads}
    optional |= {key: chosen[key] for key in OPTIONAL if chosen.get(key) is not None}
    return Runtime(device, chosen["precision"], chosen["reason"], engines, **optional), "teachers" in chosen


def other_threads(count: int | None) -> str | None:
    """A line where a run computes with another number of threads than this process has.

    >>> other_threads(torch.get_num_threads()) is None
    True
    """
    here = torch.get_num_threads()
    if count in (None, here):
        return None
    with threads(count):
        got = torch.get_num_threads()
    if got == count:
        return f"computes on {count} thread{'s' if count != 1 else ''}, as the run began; this process has {here}"
    return f"the run began with {count} threads, torch gives {got} here: the last bits of its weights may differ"


def choices_of(folder: Path) -> dict[str, Any]:
    """What a run chose by timing, by its names in `Choices`; empty where it recorded nothing.

    Raises:
        AttarError: an engine is of another version of attar.
    """
    runtime, complete = read_runtime(folder, torch.device("cpu"))
    if runtime is None:
        return {}
    share = {"threads": runtime.threads, "jobs": runtime.jobs, "line": ""}
    choices = {
        "precision": {"precision": runtime.precision, "reason": f"{runtime.precision}, as in {folder}"},
        "threads": runtime.teacher_threads,
        "share": share if runtime.threads else None,
        "compiled": runtime.compiled if complete else None,
        **{f"engine {number}": spec.to_json() for number, spec in enumerate(runtime.teachers, 1)},
    }
    return {name: choice for name, choice in choices.items() if choice is not None}


def _checked(tree: Any, record: Path) -> dict[str, Any]:
    """The choices in a record, each of its type.

    Raises:
        AttarError: one is missing or of another type.
    """
    chosen = tree.get("runtime") if isinstance(tree, dict) else None
    if not isinstance(chosen, dict) or not _count(tree.get("threads")):
        raise damaged(record, "it has no runtime and threads", REMEDY)
    for name, holds in CHOICES.items():
        if not holds(chosen.get(name)):
            raise damaged(record, f"{name} is {shortened(chosen.get(name))}", REMEDY)
    return chosen
