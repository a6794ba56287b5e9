"""Everything that is to be measured on a GPU, in order of value, in the minutes there are.

    python benchmarks/gpu.py --minutes 12 --data data --weights resnet56.pth --out benchmarks/results/gpu

Each part is a process of its own in benchmarks/on_gpu and writes its file, with hardware and versions, after every
result: what the minutes allowed is kept, whatever happens later. A part that crashes ends no other one; the end of its
output is in gpu.json. The same command again goes on with what is missing.

    smoke         one step of every method, caches, engines and compiling against the CPU
    throughput    images per second against a reference loop and a hand-written one
    levers        settings of a short training, chosen on 5,000 images of the training set
    recipe        the chosen ones on all images, three seeds, the test set; then by `attar distill`
    suites        the short recipe over 40 epochs, the five systems and their controls: three seeds, by `attar bench`

`--device cpu --tiny` runs all of it on small networks without a GPU.
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

HERE = Path(__file__).resolve().parent
# Part: (least seconds that are worth it, most it takes, share of the time left that it takes at most).
PARTS = {
    "smoke": (20, 75, 0.5),
    "throughput": (40, 330, 0.9),
    "levers": (90, 330, 0.6),
    "recipe": (60, 600, 0.5),
    "suites": (60, 900, 1.0),
}
# Seconds that a part has to save what it has after its budget.
GRACE = 25.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--data", required=True, help="the folder that holds CIFAR-100")
    parser.add_argument("--weights", default="", help="of resnet56; without, its weights are random")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu"))
    parser.add_argument("--runs", type=Path, help="where run folders go; without, into --out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    return parser.parse_args()


def run(part: str, seconds: float, options: argparse.Namespace) -> dict[str, Any]:
    """One part in a process of its own, stopped a while after its budget."""
    line = [sys.executable, str(HERE / "on_gpu" / f"{part}.py"), "--budget", f"{seconds:.0f}", "--data", options.data]
    line += [
        "--weights",
        options.weights,
        "--out",
        str(options.out),
        "--runs",
        str(options.runs),
        "--device",
        options.device,
    ]
    line += ["--tiny"] * options.tiny
    paths = [str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
    begun, log = time.monotonic(), options.out / f"{part}.log"
    with log.open("a") as file:
        process = subprocess.Popen(
            line, env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=HERE.parent, start_new_session=True
        )
        try:
            code: int | str = process.wait(seconds + GRACE)
        except subprocess.TimeoutExpired:
            end(process)
            code = "stopped: the time was up"
    tail = log.read_text(errors="replace")[-3000:]
    print(f"--- {part}: {code}, {time.monotonic() - begun:.0f} s\n{tail}", flush=True)
    return {"code": code, "seconds": time.monotonic() - begun, "tail": tail}


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a part and what it started to stop, then make it."""
    for signal in (15, 9):
        try:
            os.killpg(process.pid, signal)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def main() -> None:
    options = arguments()
    options.out = options.out.resolve()
    options.runs = (options.runs or options.out / "runs").resolve()
    options.data = str(Path(options.data).resolve())
    options.weights = str(Path(options.weights).resolve()) if options.weights else ""
    options.out.mkdir(parents=True, exist_ok=True)
    file, deadline = options.out / "gpu.json", time.monotonic() + 60 * options.minutes
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for part in options.parts:
        least, most, share = PARTS[part]
        if found.get(part, {}).get("code") == 0:
            continue
        left = deadline - time.monotonic() - GRACE
        if left < least / (10 if options.tiny else 1):
            found[part] = {"skipped": f"{left:.0f} s left, {least} are the least"}
        else:
            alone = part == options.parts[-1]
            found[part] = run(part, min(most, left if alone else share * left), options)
        file.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
