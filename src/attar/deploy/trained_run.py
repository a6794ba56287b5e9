"""Where a finished run keeps its student, its card and the measured numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any

from attar.deploy.package import STUDENT, load_facts, students_of_seeds
from attar.errors import AttarError
from attar.metrics import Scoring
from attar.profiling import Result, read_results


@dataclass(frozen=True)
class Trained:
    """A student that a run has finished.

    Attributes:
        weights: its .safetensors file.
        card: the JSON beside it.
        folder: the run's.
        finished: whether the folder is that of a job, which has results.json; not so for a file without a run.
    """

    weights: Path
    card: dict[str, Any]
    folder: Path
    finished: bool

    @cached_property
    def results(self) -> tuple[list[Result], list[dict[str, Result]], Scoring] | None:
        """The job's results: of each teacher, of each seed by name, and how they score; None for a file without a run.

        Raises:
            AttarError: results.json is damaged.
        """
        return read_results(self.folder) if self.finished else None


def find_trained(path: str | Path) -> Trained:
    """The student of a run's folder, or of a .safetensors file with its JSON.

    Of a run over several seeds it is the first seed's.

    Raises:
        AttarError: there is none, the run is not finished, or the file was not written by a run.
    """
    path = Path(path)
    weights = _weights(path)
    card = load_facts(weights)
    folder = path if path.is_dir() else path.parent
    # A seed's folder lies in its job's.
    job = next((place for place in (folder, folder.parent) if (place / "results.json").is_file()), None)
    # Only the job's own students: alone/ and teacher/ lie in it too.
    if job is None or not (job == folder or folder.name.startswith("seed")) or weights.name != STUDENT:
        return Trained(weights, card, folder, False)
    return Trained(weights, card, job, True)


def _weights(path: Path) -> Path:
    if path.is_file():
        if path.suffix != ".safetensors":
            raise AttarError(f"{path} cannot be read back; give an ONNX file, a .safetensors file or a run's folder")
        return path
    if not path.is_dir():
        raise AttarError(f"{path} does not exist; give a run's folder or a .safetensors file")
    if (path / STUDENT).is_file():
        if (path / "checkpoint.pt").exists() and not (path / "scores.json").exists():
            raise _unfinished(path)
        return path / STUDENT
    if not any((path / name).exists() for name in ("recipe.yaml", "checkpoint.pt")):
        if (path / "export.json").exists():
            raise AttarError(
                f"{path} holds an export without an ONNX file, and others cannot be read back; give the run"
            )
        raise AttarError(f"{path} holds no run (no {STUDENT}); give the folder that `attar distill` printed")
    seeds = students_of_seeds(path)
    if not seeds or not (path / "results.json").is_file():
        raise _unfinished(path)
    return seeds[0]


def _unfinished(path: Path) -> AttarError:
    return AttarError(f"the run in {path} is not finished; `attar resume {quote(str(path))}` goes on with it")
