"""How trainings share a processor: threads of a step, and parallel processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Unasked, nothing changes where it would save less than these seconds, because a process that starts and reads the data
# again takes some itself, nor for less than this factor, because times vary.
WORTH_SHARING = 60.0
CLEARLY = 1.1
GIB = 2**30
# What a container may use and does, for the second and the first kind of control groups.
GROUPS = Path("/sys/fs/cgroup")
CONTAINER = (
    (GROUPS / "memory.max", GROUPS / "memory.current"),
    (GROUPS / "memory" / "memory.limit_in_bytes", GROUPS / "memory" / "memory.usage_in_bytes"),
)


@dataclass(frozen=True)
class Share:
    """How the trainings of a job share a processor.

    Attributes:
        threads: of each.
        jobs: how many trainings go at a time, a process each.
        line: for the log, empty where nothing is out of the ordinary.
    """

    threads: int
    jobs: int = 1
    line: str = ""


def wanted_share(jobs: int, threads: int) -> Share:
    """So many trainings at a time, as in the recipe.

    >>> wanted_share(3, 8).line
    '3 trainings at a time, 2 threads each'
    """
    each = max(1, threads // jobs)
    return Share(each, jobs, _line(jobs, each))


def best_share(seconds_with: Callable[[int], list[float]], threads: int, steps: int, most: int) -> Share:
    """The fastest way through a job: ever fewer threads a step, and ever more trainings at a time.

    A small network's step is hardly faster on many threads than on few, which leaves the others to another training.

    Args:
        seconds_with: what a step of each training takes with so many threads, when nothing else runs.
        threads: how many there are.
        steps: of each training.
        most: how many trainings may go at a time.

    Returns:
        The share; all threads for one training after another where nothing else is clearly faster, or it saves little.

    >>> best_share(lambda count: [0.1 + 0.1 / count] * 6, threads=8, steps=10_000, most=6)
    Share(threads=1, jobs=6, line='6 trainings at a time, 1 thread each: 3.4 times as fast as one after another on 8')
    """

    def jobs(count: int, trainings: int) -> int:
        return min(trainings, most, threads // count)

    def tried(count: int) -> tuple[float, int]:
        each = seconds_with(count)
        return whole(each, jobs(count, len(each))) * steps, jobs(count, len(each))

    usual, _ = tried(threads)
    best, chosen, count = (usual, 1), threads, threads // 2
    while usual > WORTH_SHARING and count >= 1 and (found := tried(count)) < best:
        best, chosen, count = found, count, count // 2
    if usual - best[0] <= WORTH_SHARING or usual < CLEARLY * best[0]:
        return Share(threads)
    gain = f"{usual / best[0]:.1f} times as fast as {'one after another ' if best[1] > 1 else ''}on {threads}"
    return Share(chosen, best[1], f"{_line(best[1], chosen)}: {gain}")


def whole(seconds: list[float], jobs: int) -> float:
    """How long trainings take, so many at a time, where the next longest begins when a place is free.

    >>> whole([3.0, 2.0, 2.0], jobs=2)
    4.0
    """
    places = [0.0] * jobs
    for one in sorted(seconds, reverse=True):
        places[places.index(min(places))] += one
    return max(places)


def _line(jobs: int, threads: int) -> str:
    trainings = f"{jobs} trainings at a time, " if jobs > 1 else ""
    return f"{trainings}{threads} thread{'s' if threads > 1 else ''}{' each' if jobs > 1 else ' a step'}"


def processes_with_room() -> int:
    """How many processes as large as this one ever was the memory has room for beside it, but one at least."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 1
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return max(1, free_memory() // max(own, GIB // 4))


def free_memory() -> int:
    """Bytes that new processes may take: what the system calls available, or a container's limit leaves."""
    free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]  # where nothing better is known
    if (meminfo := Path("/proc/meminfo")).exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = [int(lines["MemAvailable"].split()[0]) * 1024]
    for limit, used in CONTAINER:
        try:
            free.append(int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no container, or one without a limit
            continue
    return max(0, min(free))
