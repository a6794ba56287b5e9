"""Where and in which precision a run computes."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from math import inf
from typing import Any

import torch
import torch.distributed as dist

from attar.accel.engine_spec import EngineSpec
from attar.accel.function_override import FunctionOverride
from attar.accel.packed_convolutions import conv2d, matrix_units
from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Losses
from attar.methods import Method
from attar.methods.common.trial import unchanged

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# After one to warm up; no more begin when the trial has taken so long.
TRIAL_STEPS, TRIAL_SECONDS = 3, 10.0
# How often the precisions are timed in turn: a busy machine slows now the one, now the other. No more begin after these
# seconds.
ROUNDS, ROUNDS_SECONDS = 3, 60.0
# Unasked, bfloat16 must be so many times as fast as float32: its steps are less exact.
CLEARLY = 1.1
# Without instructions for bfloat16 a convolution takes 34 times as long as in float32, a step 15 times (AVX2).
EMULATED = 5.0


@dataclass(frozen=True)
class Runtime:
    """The device and the precision of a run, with the reason they were chosen.

    Attributes:
        device: where the networks and the data live.
        precision: "float32", or "bfloat16" for autocast with float32 weights and losses.
        reason: for the log.
        teachers: the engine of each frozen network, as `attar.teachers.selection` chose it.
        compiled: whether the method's losses go through torch.compile.
        threads: of each training of students; None: as many as torch has.
        jobs: how many trainings of a job go at a time, a process each.
        teacher_threads: of the trainings of teachers, and of all measuring; None: as many as torch has.
    """

    device: torch.device
    precision: str
    reason: str
    teachers: tuple[EngineSpec, ...] = ()
    compiled: bool = False
    threads: int | None = None
    jobs: int = 1
    teacher_threads: int | None = None

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The context a forward pass runs in: its precision, and the fastest convolutions for the processor."""
        in_rows = self.device.type == "cpu" and matrix_units()
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"),
            FunctionOverride({torch.conv2d: conv2d}) if in_rows else nullcontext(),
        ):
            yield


def processes() -> int:
    """How many processes train together; 1 without torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def find_device(name: str) -> torch.device:
    """The device of a recipe; auto takes the accelerator that torch finds, each process of several its own GPU.

    Raises:
        AttarError: the device is not there.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device()) if processes() > 1 else torch.device("cuda")
    if name == "auto":
        # Gloo, which joins processes elsewhere, sends no tensors of other accelerators.
        others = {"xpu": torch.xpu, "mps": torch.mps} if processes() == 1 else {}
        return torch.device(next((kind for kind, module in others.items() if module.is_available()), "cpu"))
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise AttarError(f"device {name!r} is not usable here; give device=cpu or device=auto") from None
    return device


def choose(method: Method, batch: Batch, device: torch.device, precision: str) -> Runtime:
    """The runtime of a recipe; with precision "auto" steps are timed in each precision, in turn.

    bfloat16 is chosen where its shortest step is clearly faster (1.1 times), else float32. On a CPU that only emulates
    it no step is tried. The method's weights and statistics are as before afterwards.
    """
    if precision != "auto":
        return Runtime(device, precision, f"{precision} on {device}, as in the recipe")
    if device.type == "cpu" and (slower := bfloat16_slowness()) > EMULATED:
        reason = f"float32 on {device}: the processor has no bfloat16 (a convolution takes {slower:.0f} times as long)"
        return Runtime(device, "float32", reason)
    took = dict.fromkeys(PRECISIONS, inf)
    start, rounds = time.perf_counter(), 0
    while rounds < ROUNDS and time.perf_counter() - start < ROUNDS_SECONDS:
        for name in PRECISIONS:
            seconds = step_seconds(method, method.batch_losses, batch, Runtime(device, name, ""))
            took[name] = min(took[name], seconds)
        rounds += 1
    gain = took["float32"] / took["bfloat16"]
    chosen = "bfloat16" if gain >= CLEARLY else "float32"
    times = ", ".join(f"{name} {1000 * s:.1f} ms" for name, s in took.items())
    return Runtime(device, chosen, f"{chosen} on {device}: bfloat16 is {gain:.2f} times as fast ({times} a step)")


def bfloat16_slowness() -> float:
    """How many times as long as in float32 a small convolution takes in bfloat16 on the CPU.

    In seconds of one thread's own work: what else the machine does counts for neither.
    """

    def seconds(kind: torch.dtype) -> float:
        images, weight = torch.ones(4, 32, 16, 16, dtype=kind), torch.ones(32, 32, 3, 3, dtype=kind)
        times = []
        for _ in range(4):
            start = time.thread_time()
            torch.nn.functional.conv2d(images, weight)
            times.append(time.thread_time() - start)
        return min(times)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return seconds(torch.bfloat16) / seconds(torch.float32)
    finally:
        torch.set_num_threads(before)


def step_seconds(method: Method, losses_of: Callable[[Batch], Losses], batch: Batch, runtime: Runtime) -> float:
    """The shortest of a few forward and backward passes; the method is as before afterwards.

    Args:
        method: what computes.
        losses_of: its losses, or another way to compute them.
        batch: of the usual size.
        runtime: device and precision.
    """
    times: list[float] = []
    with unchanged(method):
        while len(times) < 2 or (len(times) <= TRIAL_STEPS and sum(times) < TRIAL_SECONDS):
            # As training does: with CUDA graphs a pass overwrites the gradients of the one before.
            method.zero_grad(set_to_none=True)
            start = time.perf_counter()
            with runtime.computing():
                total = losses_of(batch).total
            total.backward()
            total.item()  # waits for the device
            times.append(time.perf_counter() - start)
    method.zero_grad(set_to_none=True)
    return min(times[1:])


def environment() -> dict[str, Any]:
    """Versions and hardware, for the record beside every result."""
    packages = ("attar", "torch", "numpy", "safetensors", "omegaconf", "scipy")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "processes": processes(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **{name: _version(name) for name in packages},
    }


@cache
def _version(name: str) -> str | None:
    """A package's version; None where it runs from its source without being installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name where the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
