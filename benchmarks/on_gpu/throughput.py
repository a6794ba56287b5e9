"""Training images per second on one GPU: Attar's ways to train against a reference loop and a hand-written one.

resnet56 -> resnet20 with KD at batch 125. The contenders are those of `benchmarks/speed.py`, each a process of its own,
one after another; "lockstep" is `lockstep.py`, whose rate counts the images of all its arms.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

import torch
from common import ROOT, Record, arguments, left, log
from levers import BASE, METHODS, TINY
from lockstep import Arm, Lockstep, frozen_teacher

from attar.data import load_data

CONTENDERS = ROOT / "benchmarks" / "contenders"
# Name: file, variant, how many at once. What matters most first; compiling takes a minute.
ALL: dict[str, tuple[str, str, int]] = {
    "reference": ("reference", "", 1),
    "hand-written, bf16": ("hand_written", "", 1),
    "attar, bf16 teacher": ("attar_fit", "bfloat16", 1),
    "attar, bf16 teacher, 4 runs side by side": ("attar_fit", "bfloat16", 4),
    "attar, cached": ("attar_fit", "cached", 1),
    "hand-written, cached": ("hand_written", "cached", 1),
    "attar, bf16 teacher, compiled": ("attar_fit", "bfloat16 compiled", 1),
}
LOCKSTEPS = (1, 8, 24)
# A contender that takes longer is stopped.
MOST_SECONDS = {"compiled": 150.0, "": 75.0}


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The rate of a contender, the sum of several that run at once."""
    file, variant, runs = ALL[name]
    batch, steps = (25, 4) if options.tiny else (125, 64 if name == "reference" else 128)
    nets = ("resnet14", "resnet8") if options.tiny else ("resnet56", "resnet20")
    line = [sys.executable, str(CONTENDERS / f"{file}.py"), "--variant", variant, "--teacher", nets[0]]
    line += ["--student", nets[1], "--weights", options.weights, "--data", options.data, "--batch", str(batch)]
    line += ["--steps", str(steps), "--device", options.device]
    line += ["--threads", str(max(1, (os.cpu_count() or 1) // runs))]
    most = min(MOST_SECONDS["compiled" if "compiled" in variant else ""], max(1.0, left(options)))
    going = [subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(runs)]
    found, tail = [], ""
    for process in going:
        try:
            said, errors = process.communicate(timeout=most)
        except subprocess.TimeoutExpired:
            process.kill()
            said, errors = process.communicate()
            errors += f"\nstopped after {most:.0f} s"
        if process.returncode == 0:
            found.append(json.loads(said.strip().splitlines()[-1]))
        else:
            tail = errors[-1500:]
    if tail or not found:
        return {"failed": tail}
    return {key: sum(one[key] for one in found) for key in found[0]}


def locksteps(options: argparse.Namespace, count: int) -> dict[str, Any]:
    """The rate of so many arms of KD in one process."""
    device = torch.device(options.device)
    base = TINY if options.tiny else BASE
    splits = load_data("cifar100", root=options.data, download=False, val_fraction=0, train_size=2500)
    teacher = frozen_teacher(base[0].partition("=")[2], options.weights or None, len(splits.train.classes), device)
    arms = [Arm(f"kd {number}", METHODS["kd"]) for number in range(count)]
    group = Lockstep(arms, base, splits, teacher, device)
    group.capture()
    seconds = group.seconds_a_step()
    batch = group.tracks[0].loader.batch_size
    return {
        "images_per_second": count * batch / seconds,
        "step_ms": 1000 * seconds,
        "captured": group.captured,
        "peak_gpu_mb": torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0,
    }


def main() -> None:
    options = arguments(__doc__)
    record = Record(options.out / "throughput.json", {"batch": 125, "pair": "resnet56 -> resnet20"})
    # The capture is what everything after this part needs, so it is tried first.
    tries: dict[str, Any] = {
        f"lockstep, {count} arms": count for count in (LOCKSTEPS[:1] if options.tiny else LOCKSTEPS)
    }
    tries |= dict.fromkeys(list(ALL)[:: 2 if options.tiny else 1])
    for name, count in tries.items():
        if record.has(name) or (options.only and name not in options.only):
            continue
        if left(options) < 5:
            record.add(name, {"skipped": "no time left"})
            continue
        try:
            found = measured(name, options) if count is None else locksteps(options, count)
        except Exception as error:
            found = {"failed": f"{type(error).__name__}: {str(error)[:800]}"}
        record.add(name, found)
        log(f"{name}: {found.get('images_per_second', found)}")


if __name__ == "__main__":
    main()
