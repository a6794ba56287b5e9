"""What a run chose by timing, in environment.json: written once, read back on resume, in every process, on replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from attar.accel.engine_spec import EngineSpec
from attar.accel.runtime import Runtime, environment
from attar.files import write_json

# Absent from the records of earlier versions, or from a run that stopped before it chose the teachers' engines.
OPTIONAL = ("compiled", "threads", "jobs")


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
        AttarError: an engine is of another version of attar.
    """
    record = folder / "environment.json"
    if not record.exists():
        return None, False
    chosen = json.loads(record.read_text(encoding="utf-8"))["runtime"]
    engines = tuple(EngineSpec.from_json(entry) for entry in chosen.get("teachers", ()))
    optional = {key: chosen[key] for key in OPTIONAL if key in chosen}
    return Runtime(device, chosen["precision"], chosen["reason"], engines, **optional), "teachers" in chosen
