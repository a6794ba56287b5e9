"""What the parts of `benchmarks/gpu.py` share: their arguments, the hardware header, and a file after each result."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from attar.accel.runtime import environment
from attar.files import write_json

ROOT = Path(__file__).resolve().parents[2]


def arguments(description: str | None) -> argparse.Namespace:
    """The arguments that `benchmarks/gpu.py` gives every part."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder that holds CIFAR-100")
    parser.add_argument("--weights", default="", help="of resnet56; without, its weights are random")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the result files")
    parser.add_argument("--runs", type=Path, required=True, help="the folder of run folders")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="networks and runs of seconds, to see that it works")
    parser.add_argument("--only", nargs="*", default=[], help="some of the part's steps")
    options = parser.parse_args()
    options.deadline = time.monotonic() + options.budget
    return options


def left(options: argparse.Namespace) -> float:
    """Seconds until the part's budget is used up."""
    return options.deadline - time.monotonic()


def header() -> dict[str, Any]:
    """Hardware and versions."""
    return {"environment": environment(), "driver": driver(), "cuda": torch.version.cuda, "commit": commit()}


def driver() -> str:
    """GPU, driver and memory as nvidia-smi reports them; empty without one."""
    return output(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm", "--format=csv,noheader"])


def commit() -> str:
    """Of the source tree, or what ATTAR_COMMIT says where the tree came without its history."""
    return os.environ.get("ATTAR_COMMIT") or output(["git", "-C", str(ROOT), "rev-parse", "HEAD"])


def output(command: list[str]) -> str:
    """What a command prints; empty where it cannot run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


class Record:
    """A result file, written again after every result.

    Args:
        file: where.
        settings: what the part was asked for.
    """

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        self.content: dict[str, Any] = {**header(), "settings": settings, "results": {}}
        if file.exists():  # an earlier start of the same part
            self.content["results"] = json.loads(file.read_text())["results"]
        self.keep()

    def has(self, key: str) -> bool:
        """Whether an earlier start has this result."""
        return key in self.content["results"]

    def add(self, key: str, value: Any) -> None:
        self.content["results"][key] = value
        self.keep()

    def keep(self) -> None:
        write_json(self.file, self.content)


def log(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
    sys.stdout.flush()
