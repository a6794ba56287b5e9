"""The committed suites of CIFAR-100 by `attar bench`, runs side by side, until they end or the time does.

What is finished is kept as a record below the folder of the result files, which `benchmarks/records.py` reads; a second
start with the same `--runs` goes on where the first stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from common import ROOT, Record, arguments, left, log

sys.path.insert(0, str(ROOT / "benchmarks"))
from records import keep

# Folder: the committed suite and what is changed of it.
SUITES: dict[str, tuple[str, tuple[str, ...]]] = {
    "cifar100-fast-40": ("cifar100-fast", ("epochs=40",)),
    "five-with-teacher": ("five-with-teacher", ()),
    "five-uakd": ("five-uakd", ()),
    "five-rsd": ("five-rsd", ()),
}
# Networks of a suite that only shows that it works.
TINY = {"resnet56": "resnet14", "resnet20": "resnet8"}
# Runs side by side: a step of so small a network is launches, one processor core's work.
JOBS = 12
# Seconds that the runs get to save what they have.
SAVING = 12.0


def suite_of(suite: str, options: argparse.Namespace) -> Path:
    """The committed file; for `--tiny` one of small networks and one seed."""
    file = ROOT / "benchmarks" / "suites" / f"{suite}.yaml"
    if not options.tiny:
        return file
    tree = yaml.safe_load(file.read_text())
    tree["pairs"] = [{role: TINY[network] for role, network in pair.items()} for pair in tree["pairs"]]
    tree["recipe"] |= {"epochs": 2, "batch_size": 25}  # in one a fading weight would be 0
    tree["recipe"]["data"] |= {"train_size": 100}
    small = options.runs / file.name
    small.write_text(yaml.safe_dump(tree | {"seeds": 1}))
    return small


def link(options: argparse.Namespace) -> list[str]:
    """The overrides that name data and weights as the suites do, beside the runs: no path of this machine is kept."""
    named = {"data": options.data} | ({"resnet56.pth": options.weights} if options.weights else {})
    for name, target in named.items():
        place = options.runs / name
        place.unlink(missing_ok=True)
        place.symlink_to(target)
    return ["data.root=data", *(["teacher.weights=resnet56.pth"] if options.weights else [])]


def bench(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """`attar bench` of a suite; asked to stop when the time is up."""
    suite, changes = SUITES[name]
    file = suite_of(suite, options)
    own = [*link(options), *([] if options.tiny else changes)]
    if not any("teacher" in pair for pair in yaml.safe_load(file.read_text())["pairs"]):
        own = [key for key in own if not key.startswith("teacher")]
    jobs = 2 if options.tiny else min(JOBS, os.cpu_count() or 1)
    line = [sys.executable, "-m", "attar", "bench", str(file), *own, "--against", "literature"]
    line += [f"out={name}", f"jobs={jobs}", f"device={options.device}", "compile=false"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src") + os.pathsep + os.environ.get("PYTHONPATH", "")}
    begun, file = time.monotonic(), (options.out / f"{name}.log").open("a")
    process = subprocess.Popen(line, env=environment, cwd=options.runs, stdout=file, stderr=subprocess.STDOUT)
    while process.poll() is None and left(options) > SAVING:
        time.sleep(0.2)
    stopped = process.poll() is None
    process.terminate()
    try:
        code: int | str = process.wait(2 * SAVING)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    found = {"code": code, "stopped": stopped, "seconds": time.monotonic() - begun}
    return found | kept(name, options)


def kept(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Keep the finished runs of a suite as a record; how many of its runs they are."""
    folder = options.runs / name
    tail = (options.out / f"{name}.log").read_text()[-1500:]
    if not (folder / "cells.json").exists():
        return {"done": 0, "tail": tail}
    cells = [folder / one["folder"] for one in json.loads((folder / "cells.json").read_text())["cells"]]
    keep(folder, options.out / "records" / name)
    return {"done": sum((one / "results.json").exists() for one in cells), "of": len(cells), "tail": tail}


def main() -> None:
    options = arguments(__doc__)
    options.runs.mkdir(parents=True, exist_ok=True)
    record = Record(options.out / "suites.json", {"suites": list(SUITES), "jobs": JOBS})
    names = options.only or list(SUITES)
    for name in names:
        if left(options) > 3 * SAVING or options.tiny:
            found = bench(name, options)
            log(f"{name}: {found['done']} runs done in {found['seconds']:.0f} s")
            record.add(name, found)
    results = record.content["results"]
    # A part that ends with another status than 0 is done again by the same command.
    if unfinished := [name for name in names if results.get(name, {}).get("code") != 0]:
        sys.exit(f"not finished: {', '.join(unfinished)}; see their logs in {options.out}")


if __name__ == "__main__":
    main()
