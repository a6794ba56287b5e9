"""Every method, killed in the middle, ends as if nothing had happened."""

import hashlib
import random
import subprocess
import sys

import pytest
import torch

from attar.accel.runtime import Runtime
from attar.experiments import launch
from attar.recipe import read_recipe
from sweeps import one_of_each_kind_first, sweep

# Each method gets the next of these settings; the soak tries every method with all of them.
SETTINGS = (
    {"ema": 0.9},
    {"accumulate": 2},
    {"runtime": Runtime(torch.device("cpu"), "bfloat16", "")},
    {"checkpoint_minutes": 1e-9, "ema": 0.5, "accumulate": 2},
)
METHODS = one_of_each_kind_first()


@pytest.mark.parametrize("name", sweep())
def test_a_killed_run_ends_bit_for_bit_like_a_whole_one(tiny, name):
    draw = random.Random(name)
    settings = SETTINGS[METHODS.index(name) % len(SETTINGS)]
    whole, broken = tiny(name, **settings), tiny(name, **settings)
    # One edge of L2D compares several labels of an image, and CRLD learns where a teacher is sure.
    assert "warning" not in whole.fit() or name in ("l2d", "crld")
    broken.stopped_fit(draw.randrange(2), draw.randrange(4), "crash")
    torch.rand(3)
    broken.fit()
    assert broken.metrics == whole.metrics
    assert [key for key, tensor in broken.state.items() if not torch.equal(tensor, whole.state[key])] == []


# A process that dies by SIGKILL at its n-th rename, between a whole temporary file and the file in its place.
VICTIM = """
import os, signal, sys
from attar import cli
renames, last, replace = 0, int(sys.argv.pop(1)), os.replace
def deadly(*arguments):
    global renames
    renames += 1
    if renames == last:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*arguments)
os.replace = deadly
cli.main()
"""
RECIPE = [
    "student=resnet8",
    "method=supervised",
    "teacher=",
    "alone=skip",
    "epochs=2",
    "batch_size=16",
    "data.train_size=60",
    "precision=float32",
    "checkpoint_minutes=0.000001",
]


def digests(folder):
    return [
        hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("student.safetensors", "metrics.jsonl")
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The digests of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    launch.start(read_recipe(overrides=[*RECIPE, f"out={folder}"]))
    return digests(folder)


@pytest.mark.parametrize("rename", [7, pytest.param(16, marks=pytest.mark.slow)])
def test_a_process_killed_while_it_saves(tmp_path, undisturbed, rename):
    killed = tmp_path / "killed"
    process = [sys.executable, "-c", VICTIM, str(rename), "distill", *RECIPE, f"out={killed}"]
    assert subprocess.run(process, capture_output=True).returncode == -9
    assert list(killed.glob(".*.tmp"))
    assert list(killed.glob("checkpoint*.pt"))
    launch.resume(killed)
    assert digests(killed) == undisturbed
    assert not list(killed.rglob("*.tmp"))
