"""The examples of training loops: each takes the steps of the plain one, resumes exactly, and two processes agree."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
PARTS = "own_loop_parts"
# The libraries' own warnings; Attar's stay errors.
OTHERS = "lightning|accelerate|transformers|timm|torch"
pytestmark = pytest.mark.filterwarnings(rf"ignore:::({OTHERS})\b.*")

QUIET = {"enable_progress_bar": False, "enable_model_summary": False}
# As the other loops: no clipped gradients, images in their order.
TRAINER = {"disable_tqdm": True, "max_grad_norm": 0.0, "train_sampling_strategy": "sequential"}
LOOPS = {
    "own_loop_ddp": {},
    "own_loop_timm": {},
    "own_loop_trainer": TRAINER,
    "own_loop_accelerate": {"cpu": True},
    "own_loop_lightning": {"devices": 1, **QUIET},
}
LIBRARIES = {
    "own_loop_timm": "timm.task",
    "own_loop_trainer": "accelerate",
    "own_loop_accelerate": "accelerate",
    "own_loop_lightning": "lightning",
}
# What torchrun sets.
ONE_PROCESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
SLOW = ("own_loop_trainer", "own_loop_accelerate", "own_loop_lightning")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Imports an example whose data are two batches in their order, of 4 images, of the Trainer's example 16."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for key, value in ONE_PROCESS.items():
        monkeypatch.setenv(key, value)
    parts = importlib.import_module(PARTS)
    images, size = parts.dataset, 16 if "own_loop_trainer" in request.node.name else 4
    monkeypatch.setattr(parts, "dataset", lambda: images(2 * size))

    def in_order(shuffle=False, sampler=None):
        if sampler is not None:
            sampler.shuffle = False
        return torch.utils.data.DataLoader(parts.dataset(), size, sampler=sampler)

    monkeypatch.setattr(parts, "loader", in_order)

    def imported(name: str) -> ModuleType:
        if name in LIBRARIES:
            pytest.importorskip(LIBRARIES[name])
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    yield imported
    for name in (PARTS, "own_loop", *LOOPS):
        sys.modules.pop(name, None)


def state_of(module: ModuleType, epochs: int, out: Path, **options: object) -> dict[str, torch.Tensor]:
    """What a loop's main() ends with."""
    out.mkdir(exist_ok=True)
    method = module.main(epochs=epochs, out=str(out), **options)
    assert (out / "student.pth").exists()
    return {name: tensor.detach().clone() for name, tensor in method.state_dict().items()}


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in one if not torch.equal(one[name], other[name])]


def test_the_plain_loop_moves_everything_that_learns_and_resumes_exactly(example, tmp_path: Path, capsys) -> None:
    loop = example("own_loop")
    start = loop.build_method()
    whole = state_of(loop, 2, tmp_path / "whole")
    assert not [name for name, before in start.named_parameters() if torch.equal(whole[name], before)]
    assert "'bridge.logits->student.logits': " in capsys.readouterr().out
    state_of(loop, 1, tmp_path / "parts")
    assert differing(whole, state_of(loop, 2, tmp_path / "parts")) == []
    student = torch.load(tmp_path / "parts" / "student.pth")
    assert all(torch.equal(student[name], whole[f"student.module.{name}"]) for name in student)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in LOOPS])
def test_a_loop_takes_the_plain_loops_step_and_resumes_exactly(example, tmp_path: Path, name: str) -> None:
    loop, options = example(name), LOOPS[name]
    plain = state_of(example("own_loop"), 1, tmp_path / "plain")
    first = state_of(loop, 1, tmp_path / "parts", **options)
    assert list(first) == list(plain)
    for key in plain:
        torch.testing.assert_close(first[key], plain[key], msg=lambda text, key=key: f"{key}: {text}")
    whole = state_of(loop, 2, tmp_path / "whole", **options)
    assert differing(whole, first)
    assert differing(whole, state_of(loop, 2, tmp_path / "parts", **options)) == []


def test_timms_task_validates_an_averaged_student_and_wraps_itself_on_a_cpu(example, monkeypatch) -> None:
    loop = example("own_loop_timm")
    task = loop.DistillationTask(loop.build_method(), steps=2, epochs=1)
    assert task.get_eval_model(ema=True) is None
    task.setup_ema(decay=0.5)
    inputs, _ = next(iter(loop.loader()))
    averaged = task.get_eval_model(ema=True).eval()
    torch.testing.assert_close(averaged(inputs), task.get_eval_model().eval()(inputs))
    monkeypatch.setattr(loop, "DistributedDataParallel", lambda module, device_ids=None, **options: device_ids)
    assert task.prepare_distributed([torch.device("cpu")], broadcast_buffers=True).trainable_module is None


# Runs an example's main() as a launcher starts it, and writes the weights for each rank.
SCRIPT = f"""
import contextlib, importlib, os, sys, torch
from attar.models.libraries.imports import import_torchvision
sys.path.insert(0, {str(EXAMPLES)!r})
torch.set_num_threads(1)
with contextlib.suppress(Exception):
    import_torchvision()  # Lightning and transformers import it, which beside a CPU torch takes what this registers
example = importlib.import_module(sys.argv[1])
method = example.main(**eval(sys.argv[2]))
rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"
torch.save(method.state_dict(), f"{{rank}}.pt")
"""


def in_two_processes(name: str, folder: Path, torchrun: bool = True, **options: object) -> None:
    """Both processes end with the same parameters, none of them where it began."""
    script = folder / "run.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"] if torchrun else []
    command = [sys.executable, *launcher, str(script), name, repr({"epochs": 1, **options})]
    alone = {key: value for key, value in os.environ.items() if key not in ONE_PROCESS}
    with subprocess.Popen(
        command, cwd=folder, env=alone, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            _, errors = process.communicate(timeout=280)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # torchrun's own processes, too
            raise
    assert process.returncode == 0, errors[-3000:]
    one, other = (torch.load(folder / f"{rank}.pt") for rank in range(2))
    started = importlib.import_module(PARTS).build_method()
    for key, before in started.named_parameters():
        assert torch.equal(one[key], other[key]), key
        assert not torch.equal(one[key], before), key


@pytest.mark.slow
@pytest.mark.processes
def test_two_processes_under_ddp_hold_the_same_weights(example, tmp_path: Path) -> None:
    in_two_processes("own_loop_ddp", tmp_path)


@pytest.mark.slow
@pytest.mark.processes
def test_two_processes_under_accelerate_hold_the_same_weights(example, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    in_two_processes("own_loop_accelerate", tmp_path, cpu=True)


@pytest.mark.slow
@pytest.mark.processes
def test_two_processes_under_lightning_hold_the_same_weights(example, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    in_two_processes("own_loop_lightning", tmp_path, torchrun=False, **QUIET)


@pytest.mark.slow
@pytest.mark.processes
def test_two_processes_under_the_trainer_hold_the_same_weights(example, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    in_two_processes("own_loop_trainer", tmp_path, disable_tqdm=True, ddp_backend="gloo")


@pytest.mark.parametrize("name", ["own_loop", "own_loop_timm", "own_loop_ddp"])
def test_an_odd_number_of_batches_leaves_no_gradient(example, monkeypatch, tmp_path: Path, name: str) -> None:
    """Else the epoch after a resume would lack what the epoch before left."""
    parts = sys.modules[PARTS]
    three = torch.utils.data.DataLoader(parts.dataset(), 3)
    monkeypatch.setattr(parts, "loader", lambda **_: three)
    method = example(name).main(epochs=1, out=str(tmp_path))
    assert all(parameter.grad is None for parameter in method.trainable())
