"""Kill runs at random moments until they should break: the long form of test_kills.py and test_fuzz.py.

For every registered method a run on the digits is done once undisturbed. Then the same run is started again and again
in a process of its own, killed with SIGKILL at a random moment, and resumed; a kill is survived when the student's
weights and metrics.jsonl end bit for bit as in the undisturbed run, and nothing unfinished lies in the folder.
Afterwards ten thousand random recipes are read.

    python benchmarks/soak.py [--kills 3] [--methods kd sokd] [--recipes 10000] [--out benchmarks/results/soak.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

# Before torch is imported: the networks are tiny.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from attar import cli
from attar.errors import AttarError
from attar.files import write_json
from attar.methods import list_methods, method_info
from attar.recipe import describe, read_recipe
from attar.train import job  # noqa: F401 - imported before the processes fork

# What differs between runs of a method: the average, the accumulation and the precision take turns.
KINDS = (["optim.ema=0.9"], ["optim.accumulate=2"], ["precision=bfloat16"])
RECIPE = [
    "student=resnet8",
    "alone=skip",
    "epochs=3",
    "batch_size=16",
    "data.train_size=200",
    "optim.lr=0.05",
    "checkpoint_minutes=0.002",
    "precision=float32",
]
TEACHER = ["student=resnet14", "epochs=2", "precision=float32"]
COMPARED = ("student.safetensors", "metrics.jsonl")


def main() -> None:
    """Every method, every kill, then the fuzzing; a table and a JSON file."""
    options = arguments()
    rows = []
    print(
        "| method | kills survived | in the middle of training | temporary files left |\n|---|---:|---:|---:|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        finish(start(["train", *TEACHER, f"out={scratch / 'teacher'}"]))
        teacher = ["teacher=resnet14", f"teacher.weights={scratch / 'teacher' / 'student.safetensors'}"]
        for name in options.methods or list_methods():
            row = soak(name, teacher if method_info(name).takes_teacher else [], options, scratch / name)
            rows.append(row)
            print(f"| {name} | {row['survived']} / {row['tried']} | {row['within']} | {row['left']} |", flush=True)
    report = {"kills": rows, "fuzzed": fuzz(options.recipes, options.seed), "python": platform.python_version()}
    print(json.dumps(report["fuzzed"]))
    write_json(options.out, report)
    broken = [row["method"] for row in rows if row["survived"] < row["tried"] or row["left"]]
    sys.exit(f"not survived: {', '.join(map(str, broken))}" if broken else 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=3, help="for each method")
    parser.add_argument("--methods", nargs="*", help="all by default")
    parser.add_argument("--recipes", type=int, default=10_000, help="random recipes to read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "soak.json")
    return parser.parse_args()


def soak(method: str, teacher: list[str], options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    """One undisturbed run for each kind of recipe, and the kills."""
    draw = random.Random(f"{options.seed}/{method}")
    survived = within = left = 0
    whole: dict[int, tuple[Path, float]] = {}
    for kill in range(options.kills):
        kind = kill % len(KINDS)
        recipe = [*RECIPE, *teacher, f"method={method}", *KINDS[kind]]
        if kind not in whole:
            folder = scratch / f"whole{kind}"
            whole[kind] = (folder, trained(start(["distill", *recipe, f"out={folder}"]), folder))
        expected, seconds = whole[kind]
        folder = scratch / f"kill{kill}"
        within += kill_once(start(["distill", *recipe, f"out={folder}"]), folder, draw.uniform(0, 0.9) * seconds)
        finish(start(["resume", str(folder)]))
        survived += all(digest(folder / name) == digest(expected / name) for name in COMPARED)
        left += len(list(folder.rglob("*.tmp")))
    return {"method": method, "tried": options.kills, "survived": survived, "within": within, "left": left}


def trained(process: int, folder: Path) -> float:
    """Wait for a run to end well; the seconds from its first checkpoint to its last."""
    await_checkpoint(process, folder)
    begun = time.time()
    finish(process)
    return max(0.0, (folder / "checkpoint.pt").stat().st_mtime - begun)


def kill_once(process: int, folder: Path, seconds: float) -> bool:
    """Kill a process so long after its first checkpoint; whether that was before the run's end."""
    await_checkpoint(process, folder)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1]) and not (folder / "scores.json").exists()


def await_checkpoint(process: int, folder: Path) -> None:
    """Return when a run has its first checkpoint."""
    while not (folder / "checkpoint.pt").exists():
        time.sleep(0.001)
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            finish(process)
            return


def finish(process: int) -> None:
    """Wait for a process that must succeed."""
    if status := os.waitpid(process, 0)[1]:
        sys.exit(f"a run failed (status {status}); its last words are above")


def start(arguments: list[str]) -> int:
    """A command of attar in a process of its own, forked so that torch is imported only once."""
    if process := os.fork():
        return process
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
    sys.argv = ["attar", *arguments]
    status = 1
    try:
        cli.main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        os._exit(status)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def fuzz(count: int, seed: int) -> dict[str, int]:
    """Random overrides and YAML texts: each is a recipe or an AttarError of one line; anything else stops the soak."""
    draw, said = random.Random(seed), {"recipes": 0, "accepted": 0, "refused": 0}
    keys = [key for key, _, _ in describe()]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "recipe.yaml"
        for number in range(count):
            said["recipes"] += 1
            texts = [f"{name(draw, keys)}{'=' if number % 2 else ': '}{value(draw)}" for _ in range(draw.randint(1, 3))]
            try:
                if number % 2:
                    read_recipe(overrides=texts)
                else:
                    file.write_text("\n".join(texts), encoding="utf-8")
                    read_recipe(file)
            except AttarError as error:
                if "\n" in str(error) or not str(error).strip():
                    raise RuntimeError(f"{texts!r}: not one line: {error}") from error
                said["refused"] += 1
            except Exception as error:
                raise RuntimeError(f"{texts!r}: {type(error).__name__}: {error}") from error
            else:
                said["accepted"] += 1
    return said


def name(draw: random.Random, keys: list[str]) -> str:
    """A key, a key with a letter lost, or noise."""
    key = draw.choice([*keys, "method", "data", "student.options.x", "method.a.b"])
    return draw.choice([key, key, key[:-1], "".join(draw.choices("ab.=[]{}:$!& \t", k=draw.randint(0, 6)))])


def value(draw: random.Random) -> str:
    """A value of some type, tags and references of YAML, or noise."""
    noise = "".join(
        chr(draw.choice([draw.randint(32, 126), draw.randint(0, 31), draw.randint(160, 0x2FFF)])) for _ in range(6)
    )
    known = [
        "1",
        "-1",
        "0.5",
        "nan",
        "1e999",
        "true",
        "null",
        "[]",
        "{}",
        "[1, a]",
        "{a: 1}",
        "${x}",
        "${epochs}",
        "???",
    ]
    tags = [
        "!!python/object/apply:os.system [x]",
        "!!binary x",
        "!x y",
        "&a [*a]",
        "*a",
        "? x",
        "- x",
        "'",
        '"',
        "9" * 400,
    ]
    return draw.choice([noise, draw.choice(known), draw.choice(tags), str(draw.randint(-(2**70), 2**70))])


if __name__ == "__main__":
    main()
