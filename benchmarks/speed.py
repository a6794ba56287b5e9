"""How fast Attar distils, side by side with other ways to do the same: interleaved processes, ratios with spread.

    ATTAR_DATA=DIR python benchmarks/speed.py --weights resnet56.pth

Every contender (benchmarks/contenders/) is a process of its own and trains the same student with the same teacher on
CIFAR-100. They run one after another for some rounds; what is compared is each round's ratio to the reference loop.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from attar.accel.runtime import environment
from attar.models import create_model
from attar.profiling import cost
from attar.report.tables import Table

CONTENDERS = Path(__file__).parent / "contenders"
# Name: the file and its variant.
ALL = {
    "reference": ("reference", ""),
    "torchdistill": ("torchdistill_box", ""),
    "timm task, bf16": ("timm_task", ""),
    "hand-written, bf16": ("hand_written", ""),
    "hand-written, cached": ("hand_written", "cached"),
    "attar, bf16 teacher": ("attar_fit", "bfloat16"),
    "attar, int8 teacher": ("attar_fit", "int8"),
    "attar, int8 teacher, compiled": ("attar_fit", "int8 compiled"),
    "attar, cached": ("attar_fit", "cached"),
    "attar, cached, compiled": ("attar_fit", "cached compiled"),
}
# The package that a contender's file needs, where a development installation has it not anyway.
NEEDS = {"torchdistill_box": "torchdistill", "timm_task": "timm"}
# Runs of these also side by side, half the threads each.
PAIRED = (
    "reference",
    "hand-written, cached",
    "attar, int8 teacher",
    "attar, cached",
    "attar, cached, compiled",
)
PAIRED_NAME = "{}, 2 runs side by side"
# On a shared host other machines may take the processors away: a run that loses more of its time is done again, at most
# twice, and the one that lost least counts.
MOST_STOLEN, TRIES = 0.1, 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet56")
    parser.add_argument("--weights", default="", help="of the teacher; without, its weights are random")
    parser.add_argument("--student", default="resnet20")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds CIFAR-100")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cuda: only contenders that have a GPU in mind")
    parser.add_argument("--only", nargs="*", default=list(ALL), choices=list(ALL), help="some of the contenders")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed"))
    return parser.parse_args()


def installed(names: list[str]) -> list[str]:
    """The contenders whose packages are here; those that are left out are named."""
    there = []
    for name in names:
        package = NEEDS.get(ALL[name][0])
        if package is None or importlib.util.find_spec(package):
            there.append(name)
        else:
            print(f"{name}: left out, because {package} is not installed")
    return there


def start(name: str, options: argparse.Namespace, threads: int) -> subprocess.Popen[str]:
    file, variant = ALL[name]
    command = [sys.executable, str(CONTENDERS / f"{file}.py"), "--variant", variant, "--threads", str(threads)]
    for key in ("teacher", "weights", "student", "data", "batch", "steps", "device"):
        command += [f"--{key}", str(getattr(options, key))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, float]:
    """What a contender printed last."""
    said, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(process.args)} failed:\n{errors[-2000:]}")  # type: ignore[arg-type]
    return json.loads(said.strip().splitlines()[-1])


def alone(name: str, options: argparse.Namespace) -> dict[str, float]:
    return result(start(name, options, options.threads))


def paired(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Two runs at once, half the threads each: their sum."""
    processes = [start(name, options, max(1, options.threads // 2)) for _ in range(2)]
    both = [result(process) for process in processes]
    return {key: sum(one[key] for one in both) for key in both[0]}


def calm(phase: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What a run found, with the share of the processors' busy time that was taken away meanwhile."""
    tries: list[dict[str, float]] = []
    while len(tries) < TRIES and not any(one["stolen"] <= MOST_STOLEN for one in tries):
        before = processor_ticks()
        one = phase()
        stolen, used = (now - then for now, then in zip(processor_ticks(), before, strict=True))
        tries.append({**one, "stolen": stolen / max(1, stolen + used)})
    return min(tries, key=lambda one: one["stolen"])


def processor_ticks() -> tuple[int, int]:
    """(taken away, used) by all processors since the machine started; zeros where the system does not tell."""
    if not STAT.exists():
        return 0, 0
    user, nice, system, _, _, irq, soft, steal = map(int, STAT.read_text().split()[1:9])
    return steal, user + nice + system + irq + soft


STAT = Path("/proc/stat")


def rounds(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Every contender once a round, in the same order."""
    phases: dict[str, Callable[[], dict[str, float]]] = {}
    for name in options.only:
        phases[name] = lambda name=name: alone(name, options)
        if name in PAIRED:
            phases[PAIRED_NAME.format(name)] = lambda name=name: paired(name, options)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in phases}
    for number in range(options.rounds):
        for name, phase in phases.items():
            found[name].append(one := calm(phase))
            stolen = f", {100 * one['stolen']:.0f} % stolen" if one["stolen"] > MOST_STOLEN else ""
            print(f"round {number + 1}: {name:50s} {one['images_per_second']:7.0f} images/s{stolen}", flush=True)
    return found


def flops_per_image(options: argparse.Namespace, name: str) -> float:
    """Of one training step: forward and backward (twice the forward) of the student, forward of a live teacher."""
    macs = {role: cost(create_model(getattr(options, role), num_classes=100), (3, 32, 32)).macs for role in ROLES}
    forwards = 0 if "cached" in name else 1
    return 2 * (3 * macs["student"] + forwards * macs["teacher"])


ROLES = ("teacher", "student")


def limit(dtype: torch.dtype, threads: int) -> float:
    """What this machine reaches in a 3x3 convolution of 64 channels, in GFLOP/s: the best of many."""
    torch.set_num_threads(threads)
    conv = torch.nn.Conv2d(64, 64, 3, padding=1, bias=False).to(dtype=dtype, memory_format=torch.channels_last)
    images = torch.randn(64, 64, 16, 16).to(dtype=dtype, memory_format=torch.channels_last)
    best = float("inf")
    with torch.no_grad():
        for _ in range(30):
            begun = time.perf_counter()
            conv(images)
            best = min(best, time.perf_counter() - begun)
    return 2 * 64 * 64 * 9 * 16 * 16 * 64 / best / 1e9


def import_seconds(statement: str) -> float:
    """The shortest of five fresh interpreters, less an empty one."""

    def once(code: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - begun

    return min(once(statement) for _ in range(5)) - min(once("pass") for _ in range(5))


def summary(found: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> Table:
    """A row a contender: speed, ratio to the reference in the same round, share of the limit, memory."""
    base = [one["images_per_second"] for one in found.get("reference", [])]
    top = limit(torch.bfloat16, options.threads)
    body = []
    for name, runs in found.items():
        speeds = [one["images_per_second"] for one in runs]
        ratios = sorted(speed / other for speed, other in zip(speeds, base, strict=True)) if base else []
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if ratios else ""
        reached = statistics.median(speeds) * flops_per_image(options, name) / 1e9
        body.append(
            [
                name,
                f"{statistics.median(speeds):,.0f}",
                spread,
                f"{reached:,.0f}",
                f"{100 * reached / top:.0f}",
                f"{max(one['peak_mb'] for one in runs):,.0f}",
            ]
        )
    title = f"{options.teacher} -> {options.student}, batch {options.batch}, {options.threads} threads"
    return Table(title, ["", "images/s", "times the reference", "GFLOP/s", "% of limit", "peak MB"], body)


def plot(found: dict[str, list[dict[str, float]]], file: Path) -> None:
    """The medians as bars, with every round as a dot."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    names = list(found)[::-1]
    speeds = [[one["images_per_second"] for one in found[name]] for name in names]
    figure, axes = pyplot.subplots(figsize=(7, 0.42 * len(names) + 0.8), layout="constrained")
    colours = ["#c2571a" if name.startswith("attar") else "#9aa0a6" for name in names]
    axes.barh(names, [statistics.median(one) for one in speeds], color=colours)
    for row, one in enumerate(speeds):
        axes.plot(one, [row] * len(one), ".", color="black", markersize=4)
    axes.set_xlabel("training images per second")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file)


def main() -> None:
    options = arguments()
    options.only = installed(options.only)
    found = rounds(options)
    table = summary(found, options)
    starting = {what: import_seconds(what) for what in ("import attar", "import torch")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "environment": environment(),
        "settings": {key: str(value) for key, value in vars(options).items() if key not in ("data", "weights", "out")},
        "limit_gflops": {str(t)[6:]: limit(t, options.threads) for t in (torch.float32, torch.bfloat16)},
        "import_seconds": starting,
        "rounds": found,
    }
    options.out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    plot(found, options.out.with_suffix(".svg"))
    print(
        f"\n{table.markdown()}\n\n3x3 convolutions here reach {record['limit_gflops']} GFLOP/s; start-up {starting} s"
    )


if __name__ == "__main__":
    main()
