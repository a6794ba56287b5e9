"""The examples of other people's loops: they train, and two processes end with the same weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
# Runs an example's main() in this process, as a launcher starts it, and writes the weights for each rank.
SCRIPT = """
import contextlib, importlib, os, sys, torch
from attar.models.libraries.imports import import_torchvision
torch.set_num_threads(1)
with contextlib.suppress(Exception):
    import_torchvision()  # Lightning and transformers import it, which beside a CPU torch takes what this registers
example = importlib.import_module(sys.argv[1])
method = example.main(**eval(sys.argv[2]))
rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"
torch.save(method.state_dict(), f"{rank}.pt")
"""


def trained(example: str, folder: Path, processes: int = 1, torchrun: bool = False, **options: object) -> list[dict]:
    """The weights that each process ends with."""
    script = folder / "run.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(EXAMPLES)!r})\n{SCRIPT}")
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"] if torchrun else []
    command = [sys.executable, *launcher, str(script), example, repr(options)]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            _, errors = process.communicate(timeout=280)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # torchrun's own processes, too
            raise
    assert process.returncode == 0, errors[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(processes)]


def moved_alike(states: list[dict]) -> None:
    """All processes hold the same parameters, and they are not those of the start."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        from loop_parts import build_method
    finally:
        sys.path.remove(str(EXAMPLES))
    start = {name: parameter.detach() for name, parameter in build_method().named_parameters()}
    for state in states:
        assert all(torch.equal(state[name], states[0][name]) for name in start)
    assert not any(torch.equal(states[0][name], before) for name, before in start.items())


@pytest.mark.processes
def test_ddp(tmp_path: Path) -> None:
    moved_alike(trained("loop_ddp", tmp_path, 2, torchrun=True))


@pytest.mark.slow
@pytest.mark.processes
def test_accelerate_in_bfloat16(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    moved_alike(trained("loop_accelerate", tmp_path, 2, torchrun=True, cpu=True))


@pytest.mark.slow
@pytest.mark.processes
def test_lightning(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    moved_alike(trained("loop_lightning", tmp_path, 2, **quiet))


@pytest.mark.slow
@pytest.mark.processes
def test_the_trainer_of_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    moved_alike(trained("loop_trainer", tmp_path, use_cpu=True, disable_tqdm=True))
