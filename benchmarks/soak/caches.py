"""A teacher's cache, whose writing is killed at random moments or meets a full disk."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands import STUDENT, digest, finish, kill, leftovers, run, same, start, timed, trained_teacher

RECIPE = [*STUDENT, "method=kd", "epochs=3", "data.train_size=200", "checkpoint_minutes=0.002"]
KINDS = {"all logits": [], "three logits": ["teacher.cache_top=3"]}
COLUMNS = ("cache", "fault", "same bits", "while filling", "files as undisturbed", "full and clean after the next run")
# An undisturbed run uses so many calls to the system for its cache; a disk that is full from one of them on is tried.
CALLS = 14


def rows(trials: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """Two rows a kind of cache: its process killed, and its disk full."""
    teacher, found = trained_teacher(scratch), []
    for number, (kind, options) in enumerate(KINDS.items()):
        recipe = ["distill", *RECIPE, *teacher, *options]
        draw, place = random.Random(f"{seed}/{kind}"), scratch / str(number)
        whole = place / "whole"
        process = start(told(recipe, place, "whole"))
        seconds = timed(process, whole / "recipe.yaml", whole / "checkpoint.pt")
        for fault in ("SIGKILL", "full disk"):
            found.append(soak(kind, fault, recipe, seconds, trials, draw, place))
    return found


def soak(
    kind: str, fault: str, recipe: list[str], seconds: float, trials: int, draw: random.Random, place: Path
) -> dict[str, Any]:
    """One fault after the other, each with a cache of its own that the next run then fills."""
    survived = filling = sound = clean = 0
    for trial in range(trials):
        name = f"{fault.replace(' ', '')}{trial}"
        folder, cache = place / name, place / f"cache-{name}"
        if fault == "SIGKILL":
            process = start(told(recipe, place, name))
            filling += kill(process, folder / "recipe.yaml", draw.uniform(0, 0.95) * seconds)
            run(["resume", str(folder)])
        else:
            finish(start(told(recipe, place, name), full_disk(cache, draw.randrange(CALLS))))
            filling += len(kept(cache)) < len(kept(place / "cache-whole"))
        survived += same(folder, place / "whole")
        sound += kept(cache).items() <= kept(place / "cache-whole").items()
        run([*recipe, f"teacher.cache={cache}", f"out={place / f'next-{name}'}"])
        full = kept(cache) == kept(place / "cache-whole") and not leftovers(cache)
        clean += full and same(place / f"next-{name}", place / "whole")
    counts = [f"{count} / {trials}" for count in (survived, filling, sound, clean)]
    row = dict(zip(COLUMNS, [kind, fault, *counts], strict=True))
    return {**row, "passed": survived == sound == clean == trials}


def told(recipe: list[str], place: Path, name: str) -> list[str]:
    """A run in a folder, with a cache beside it."""
    return [*recipe, f"out={place / name}", f"teacher.cache={place / f'cache-{name}'}"]


def kept(cache: Path) -> dict[Path, str]:
    """The finished files of a cache, and what is in them."""
    return {file.relative_to(cache): digest(file) for file in cache.rglob("*.bin")}


def full_disk(cache: Path, calls: int) -> Callable[[], None]:
    """Makes every file of the cache refuse to be opened for writing or to grow, after so many calls."""

    def patch() -> None:
        left = [calls]

        def limited(call: Callable[..., Any]) -> Callable[..., Any]:
            def refusing(target: Any, *arguments: Any, **values: Any) -> Any:
                path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
                if str(path).startswith(str(cache)):
                    left[0] -= 1
                    if left[0] < 0:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return call(target, *arguments, **values)

            return refusing

        os.open, os.posix_fallocate = limited(os.open), limited(os.posix_fallocate)

    return patch
