"""The chosen short trainings on all 50,000 images, three seeds each, scored on the test set after the last epoch.

First in lockstep (`lockstep.py`), every seed with its own order and views; then, in the time that is left, by the
command that a user runs, `attar distill`, the seeds of KD and of the student alone as processes side by side. What to
train is read from levers.json; without it, each method has the settings that all arms share.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from common import ROOT, Record, arguments, left, log
from levers import BASE, METHODS, TINY
from lockstep import Arm, frozen_teacher, together

from attar.data import load_data

SEEDS = (0, 1, 2)
# Of the seconds, what the lockstep may take; the command gets the rest.
SHARE = 0.5
# Less than this is not worth starting the command.
LEAST_SECONDS = 60.0


def settings(out: Path) -> dict[str, list[str]]:
    """The overrides of each method: those that were chosen, or its own."""
    found = {method: list(overrides) for method, overrides in METHODS.items()}
    file = out / "levers.json"
    if file.exists():
        picked = json.loads(file.read_text())["results"].get("chosen", {})
        found |= {method: one["overrides"] for method, one in picked.items()}
    return found


def spread(arms: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation of each method's test accuracy."""
    found = {}
    for method in dict.fromkeys(one["name"] for one in arms):
        top1 = [one["top1"] for one in arms if one["name"] == method]
        found[method] = {"mean": mean(top1), "sd": stdev(top1) if len(top1) > 1 else None, "top1": top1}
        log(f"{method}: {mean(top1):.2f} of {[round(one, 2) for one in top1]}")
    return found


def command(method: str, overrides: list[str], base: list[str], options: argparse.Namespace, folder: Path) -> list[str]:
    """`attar distill` of one method, its seeds side by side."""
    seeds = 2 if options.tiny else len(SEEDS)
    own = [*base, *overrides, f"data.root={options.data}", "data.val_fraction=0", "alone=skip"]
    own += [f"teacher.weights={options.weights}"] * bool(options.weights)
    if method == "alone":
        own = [key for key in own if not key.startswith("teacher")]
    if options.tiny:
        own += ["data.train_size=250"]
    own += [f"seeds={seeds}", f"jobs={seeds}", f"device={options.device}", f"out={folder}"]
    return [sys.executable, "-m", "attar", "distill", *own]


def by_command(methods: dict[str, list[str]], base: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """KD and the student alone at once, until they end or the time does; a second start resumes what was stopped."""
    runs, found = options.runs, {}
    threads = max(1, (os.cpu_count() or 1) // (2 * len(SEEDS)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src") + os.pathsep + os.environ.get("PYTHONPATH", "")}
    environment["OMP_NUM_THREADS"] = str(threads * len(SEEDS))
    going = {}
    begun = time.monotonic()
    for method in ("kd", "alone"):
        folder = runs / method
        again = (folder / "recipe.yaml").exists()
        line = command(method, methods[method], base, options, folder)
        line = [sys.executable, "-m", "attar", "resume", str(folder)] if again else line
        file = (options.out / f"distill-{method}.log").open("a")
        going[method] = subprocess.Popen(line, env=environment, stdout=file, stderr=subprocess.STDOUT)
    while left(options) > 0 and any(process.poll() is None for process in going.values()):
        time.sleep(0.2)
    seconds = time.monotonic() - begun
    for process in going.values():
        process.terminate()
    time.sleep(0 if left(options) > 0 else 8)
    for method, process in going.items():
        process.kill()
        found[method] = {"code": process.wait(), "seconds": seconds, **results_of(runs / method)}
        found[method]["tail"] = (options.out / f"distill-{method}.log").read_text()[-1500:]
        log(f"attar distill, {method}: top-1 {found[method]['top1']}, epochs {found[method]['epochs']}")
    return found


def results_of(folder: Path) -> dict[str, Any]:
    """Test accuracies of the trainings that ended, and how far the others came."""
    scores = [json.loads(file.read_text())["results"] for file in sorted(folder.glob("seed*/scores.json"))]
    top1 = [100 * one["scores"]["top1"] for results in scores for one in results if one["name"] == "student"]
    epochs = {
        file.parent.name: len(file.read_text().splitlines()) for file in sorted(folder.glob("seed*/metrics.jsonl"))
    }
    runtime = folder / "environment.json"
    reason = json.loads(runtime.read_text())["runtime"]["reason"] if runtime.exists() else ""
    return {"top1": top1, "epochs": epochs, "runtime": reason}


def main() -> None:
    options = arguments(__doc__)
    device = torch.device(options.device)
    base, methods = TINY if options.tiny else BASE, settings(options.out)
    sizes = {"train_size": 250} if options.tiny else {}
    record = Record(options.out / "recipe.json", {"base": base, "methods": methods})
    if not record.has("lockstep"):
        splits = load_data("cifar100", root=options.data, download=False, val_fraction=0, **sizes)
        test = splits.test.subset(torch.arange(200)) if options.tiny else splits.test
        teacher = frozen_teacher(base[0].partition("=")[2], options.weights or None, len(splits.train.classes), device)
        seeds = SEEDS[:1] if options.tiny else SEEDS
        arms = [Arm(method, tuple(methods[method]), seed) for seed in seeds for method in methods]
        found = together(arms, base, splits, teacher, device, test, SHARE * left(options), log)
        record.add("lockstep", {**asdict(found), "test": spread(found.arms)})
        del teacher, splits
    if left(options) < LEAST_SECONDS:
        record.add("attar distill", {"skipped": f"{left(options):.0f} s left"})
        return
    if device.type == "cuda":
        torch.cuda.empty_cache()
    record.add("attar distill", by_command(methods, base, options))


if __name__ == "__main__":
    main()
