"""Whether Attar computes on the GPU what it computes on the CPU: one step of every method, caches, engines, compiling.

Each check is a line of its own in smoke.json: "ok", a number, or what went wrong.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import Record, arguments, left, log
from safetensors.torch import load_file
from torch import Tensor

from attar.accel.compiled_steps import choose_compiled
from attar.accel.runtime import Runtime, choose
from attar.batch import Batch
from attar.data import Augment, DeviceLoader, ImageSet
from attar.methods import create_method, list_methods, method_info
from attar.metrics import evaluate
from attar.models import create_model
from attar.recipe import OptimRecipe
from attar.safety.nonfinite import Watch, gradient_norm
from attar.teachers.engines import Folded
from attar.train.optim import optimiser

CLASSES, IMAGES = 10, 32
# Relative difference of a loss in float32.
NEAR = 2e-3
# Checks that are not begun with less time than this.
LEAST_SECONDS = {"cached teacher": 10.0, "compiled": 25.0}


def noise(count: int = IMAGES) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % CLASSES
    return ImageSet(pixels, labels, tuple("abcdefghij"), "noise", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def batches(device: torch.device, count: int = IMAGES, size: int = IMAGES) -> DeviceLoader:
    return DeviceLoader(noise(count), size, Augment(4, flip=True), device=device, channels_last=True)


def method_of(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    nets: dict[str, Any] = {"student": create_model("resnet8", num_classes=CLASSES)}
    if method_info(name).takes_teacher:
        nets["teacher"] = create_model("resnet14", num_classes=CLASSES)
    method = create_method(name, image_shape=(3, 32, 32), **nets)
    method.setup(noise().labels)
    return method


def step(method: Any, batch: Batch, device: torch.device, runtime: Runtime) -> dict[str, float]:
    """Losses of every phase of one step, and the norm of the weights after it."""
    method.to(device=device, memory_format=torch.channels_last).train()
    found: dict[str, float] = {}
    for phase in method.phases:
        learner = optimiser(method.trainable(phase), OptimRecipe(lr=0.01))
        Watch(device).guard(learner)
        with runtime.computing():
            losses = method.batch_losses(replace(batch, phase=phase))
        losses.total.backward()
        found |= {f"{phase} {key}": float(term.detach()) for key, term in losses.terms.items()}
        found[f"{phase} gradient"] = float(gradient_norm(learner))
        learner.step()
        learner.zero_grad(set_to_none=True)
    return found


def apart(one: dict[str, float], other: dict[str, float]) -> float:
    """The largest relative difference."""
    return max(abs(one[key] - other[key]) / max(abs(other[key]), 1e-3) for key in other)


def moved(batch: Batch, device: torch.device) -> Batch:
    index = None if batch.index is None else batch.index.to(device)
    return replace(batch, inputs=batch.inputs.to(device), labels=batch.labels.to(device), index=index)


def same_losses(name: str, device: torch.device) -> str:
    """A method's first step on the device against the CPU's; methods that draw on the device differ by their draws."""
    cpu = torch.device("cpu")
    batch = next(iter(batches(cpu).epoch(0)))
    method = method_of(name)
    other = copy.deepcopy(method)
    here = step(method, batch, cpu, Runtime(cpu, "float32", ""))
    there = step(other, moved(batch, device), device, Runtime(device, "float32", ""))
    difference = apart(there, here)
    return f"{'ok' if difference < NEAR else 'DIFFERS'}: {difference:.1e}"


def same_batches(device: torch.device) -> str:
    pairs = zip(batches(torch.device("cpu"), 128).epoch(3), batches(device, 128).epoch(3), strict=True)
    return "ok" if all(torch.equal(one.inputs, other.inputs.cpu()) for one, other in pairs) else "DIFFERS"


def same_scores(device: torch.device) -> str:
    net = create_model("resnet8", num_classes=CLASSES)
    one = evaluate(net, batches(torch.device("cpu"), 128).epoch(0))
    other = evaluate(net.to(device), batches(device, 128).epoch(0))
    return f"{'ok' if abs(one.nll - other.nll) < 1e-4 else 'DIFFERS'}: {abs(one.nll - other.nll):.1e}"


def engines(device: torch.device) -> str:
    net = create_model("resnet14", num_classes=CLASSES).to(device).eval()
    images = next(iter(batches(device).epoch(0))).inputs
    with torch.no_grad():
        errors = [
            float((Folded(net, dtype)(images).logits - net(images)).norm() / net(images).norm())
            for dtype in (torch.float32, torch.bfloat16)
        ]
    return f"{'ok' if errors[0] < 1e-3 and errors[1] < 0.1 else 'DIFFERS'}: {errors}"


def precision(device: torch.device) -> str:
    method = method_of("kd").to(device=device, memory_format=torch.channels_last)
    return choose(method, next(iter(batches(device).epoch(0))), device, "auto").reason


def compiled(device: torch.device) -> str:
    """A compiled step, with CUDA graphs, equals the plain one; the line is the one that a run prints."""
    method = method_of("kd").to(device=device, memory_format=torch.channels_last).train()
    runtime = Runtime(device, "float32", "")
    chosen, line = choose_compiled(method, next(iter(batches(device).epoch(0))), runtime, True, 10_000, 1)
    return f"{'ok' if chosen else 'NOT USED'}: {line}"


def held_updates(device: torch.device) -> str:
    """A NaN leaves the weights as they were, and is found with its step."""
    weight = torch.nn.Parameter(torch.ones(4, device=device))
    learner, watch = optimiser([weight], OptimRecipe()), Watch(device)
    watch.guard(learner)
    for number, loss in enumerate((weight.sum(), weight.sum() * float("nan"), weight.sum())):
        watch.saw(loss, number)
        loss.backward()
        before = weight.detach().clone()
        learner.step()
        learner.zero_grad()
    good = watch.bad(now=True) == (1, "") and bool(torch.equal(before, weight.detach()))
    return "ok" if good else "DIFFERS"


def cached_teacher(options: Any) -> str:
    """Two short jobs with one teacher and one cache: the second reads what the first wrote, and trains alike."""
    weights: list[dict[str, Tensor]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for run in ("first", "second"):
            line = ["distill", "data=digits", "teacher=resnet14", "student=resnet8", "epochs=2", "teacher.epochs=1"]
            line += [f"teacher.cache={scratch}/cache", "alone=skip", f"device={options.device}", "jobs=1"]
            line += ["data.train_size=200", "batch_size=50", "precision=float32", f"out={scratch}/{run}"]
            line += [f"teacher.weights={scratch}/first/teacher/student.safetensors"] * bool(weights)
            done = subprocess.run([sys.executable, "-m", "attar", *line], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError((done.stdout + done.stderr)[-300:])
            weights.append(load_file(Path(scratch) / run / "student.safetensors"))
        files = len(list(Path(scratch, "cache").rglob("epoch*.bin")))
    difference = max(float((one - weights[1][key]).abs().max()) for key, one in weights[0].items())
    return f"{'ok' if files == 2 and difference < 1e-2 else 'DIFFERS'}: {files} files, weights apart {difference:.1e}"


def tried(check: Callable[[], str]) -> str:
    """What a check found; a crash is a finding."""
    try:
        return check()
    except SystemExit as error:
        return f"CRASHED: exit {error.code}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"CRASHED: {type(error).__name__}: {str(error)[:300]} ({Path(place.filename).name}:{place.lineno})"


def main() -> None:
    options = arguments(__doc__)
    device = torch.device(options.device)
    # Else convolutions of float32 round to ten bits, and nothing could be compared.
    torch.backends.cudnn.allow_tf32 = False
    record = Record(options.out / "smoke.json", {"images": IMAGES, "near": NEAR})
    checks: dict[str, Callable[[], str]] = {
        "batches": lambda: same_batches(device),
        "scores": lambda: same_scores(device),
        "engines": lambda: engines(device),
        "a NaN": lambda: held_updates(device),
        "precision": lambda: precision(device),
    }
    names = [name for name in list_methods() if "layers" not in method_info(name).needs][: 3 if options.tiny else None]
    checks |= {f"method {name}": (lambda name=name: same_losses(name, device)) for name in names}
    checks["cached teacher"] = lambda: cached_teacher(options)
    if not options.tiny:
        checks["compiled"] = lambda: compiled(device)
    for name, check in checks.items():
        if record.has(name):
            continue
        if left(options) < LEAST_SECONDS.get(name, 0.0):
            record.add(name, "skipped: no time left")
            continue
        record.add(name, line := tried(check))
        log(f"{name}: {line}")
    bad = [name for name, line in record.content["results"].items() if line.startswith(("CRASHED", "DIFFERS"))]
    log(f"{len(checks) - len(bad)} of {len(checks)} checks hold; not: {', '.join(bad) or 'none'}")


if __name__ == "__main__":
    main()
