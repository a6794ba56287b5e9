"""How long the literature's KD run takes on this machine's accelerator, alone and several side by side.

    python benchmarks/gpu.py --data data --weights resnet32x4.pth

The whole of it: 240 epochs of resnet32x4 -> resnet8x4 on CIFAR-100 at batch 64, as `attar distill` runs it, start-up,
checkpoints and the final evaluation included. Further KEY=VALUE change the recipe; without an accelerator the same
command runs on the processor (epochs=1 data.train_size=1280 teacher=resnet56, to see it work).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from attar.accel.runtime import environment

RECIPE = [
    "teacher=resnet32x4",
    "student=resnet8x4",
    "data=cifar100",
    "data.val_fraction=0",
    "alone=skip",
    "epochs=240",
    "batch_size=64",
    "optim.lr=0.05",
    "optim.nesterov=false",
    "optim.schedule=multistep",
]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds CIFAR-100")
    parser.add_argument("--weights", required=True, help="of the teacher")
    parser.add_argument("--side-by-side", type=int, nargs="*", default=[1, 4], help="how many runs at a time")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu.json"))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    return parser.parse_args()


def measured(runs: int, options: argparse.Namespace) -> dict[str, object]:
    """So many runs with seeds of their own, begun at once: seconds until the last has ended, and what each reached."""
    given = [*RECIPE, f"data.root={options.data}", f"teacher.weights={options.weights}", *options.overrides]
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / str(seed) for seed in range(runs)]
        begun = time.perf_counter()
        going = [
            subprocess.Popen([sys.executable, "-m", "attar", "distill", *given, f"seed={seed}", f"out={folder}"])
            for seed, folder in enumerate(folders)
        ]
        if any(process.wait() for process in going):
            raise SystemExit("a run failed; its message is above")
        seconds = time.perf_counter() - begun
        results = [json.loads((folder / "results.json").read_text())["runs"][0] for folder in folders]
        chosen = json.loads((folders[0] / "environment.json").read_text())["runtime"]["reason"]
    top1 = [100 * result["student"]["scores"]["top1"] for result in results]
    return {"runs": runs, "seconds": seconds, "top1": top1, "runtime": chosen}


def main() -> None:
    options = arguments()
    if not torch.cuda.is_available():
        print("no accelerator: this takes the processor's time")
    found = []
    for runs in options.side_by_side:
        found.append(measured(runs, options))
        print(f"{runs} at a time: {found[-1]['seconds']:.0f} s, top-1 {found[-1]['top1']}")
    record = {"environment": environment(), "recipe": [*RECIPE, *options.overrides], "found": found}
    options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
