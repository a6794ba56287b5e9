"""A suite as jobs of a cluster, through submitit: a part of the runs each, requeued and resumed when preempted."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from attar.errors import AttarError, Stopped
from attar.experiments.suites.bench import Bench, read_suite
from attar.extras import require
from attar.plugins import import_files
from attar.recipe import parse
from attar.safety.signals import stop_requests

# Where submitit keeps its jobs and their logs, in the suite's folder.
FOLDER = "jobs"
# A job that reaches its time limit goes on in the queue, as often as a suite may need.
MOST_REQUEUES, MINUTES = 1000, 240
# What submitit itself knows; other keys are the scheduler's.
SHARED = ("name", "nodes", "tasks_per_node", "cpus_per_task", "mem_gb", "gpus_per_node", "timeout_min")


@dataclass(frozen=True)
class Submission:
    """How a suite is submitted.

    Attributes:
        count: how many jobs.
        cluster: slurm, or local for processes of this machine.
        parameters: what the scheduler gets.
    """

    count: int
    cluster: str = "slurm"
    parameters: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, overrides: list[str]) -> tuple[Submission | None, list[str]]:
        """The submission among key=value arguments, None without submit=N, and the other arguments.

        Raises:
            AttarError: submit is no number, or a key of the scheduler stands without it.

        >>> Submission.of(["submit=4", "slurm.partition=gpu", "epochs=3"])
        (Submission(count=4, cluster='slurm', parameters={'partition': 'gpu'}), ['epochs=3'])
        """
        given = [one for one in overrides if one.startswith(("submit=", "slurm."))]
        rest = [one for one in overrides if one not in given]
        if not given:
            return None, rest
        counts = [one.partition("=")[2] for one in given if one.startswith("submit=")]
        if not counts or not counts[-1].isdecimal() or int(counts[-1]) < 1:
            raise AttarError("slurm keys need submit=N, the number of jobs, a whole number from 1")
        keys: dict[str, Any] = {}
        for one in given:
            keys |= parse(one).get("slurm", {})
        cluster = keys.pop("cluster", "slurm")
        if cluster not in ("slurm", "local"):
            raise AttarError(f"slurm.cluster must be slurm or local, got {cluster!r}")
        return cls(int(counts[-1]), cluster, keys), rest


@dataclass(frozen=True)
class PartOfSuite:
    """A part of a suite's runs, as a job calls it.

    Attributes:
        suite: the suite's file.
        overrides: key=value arguments, share=K/N among them.
        against: as for `read_suite`.
        plugins: Python files to import first.
    """

    suite: str
    overrides: tuple[str, ...]
    against: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()

    def __call__(self) -> None:
        import_files(map(Path, self.plugins))
        bench = read_suite(self.suite, list(self.overrides), Console(width=100), self.against)
        with requeued_when_preempted():
            bench.run()

    def checkpoint(self) -> Any:
        """What goes on in the queue after a preemption: the same part, resumed from its folders."""
        return require("submitit", "a suite on a cluster", "slurm").helpers.DelayedSubmission(self)


def submit(
    bench: Bench,
    submission: Submission,
    suite: Path,
    overrides: list[str],
    against: tuple[str, ...] = (),
    plugins: Sequence[Path] = (),
) -> list[Any]:
    """Check a suite and hand its parts to the scheduler.

    Args:
        bench: the suite, read.
        submission: how.
        suite: its file.
        overrides: the arguments of the command line, without those of the submission.
        against: as for `read_suite`.
        plugins: Python files to import first.

    Returns:
        The jobs, as submitit has them.

    Raises:
        AttarError: there is no Slurm, the suite cannot begin, submitit is not installed, or it refuses a parameter.
    """
    submitit = require("submitit", "a suite on a cluster", "slurm")
    if submission.cluster == "slurm" and shutil.which("srun") is None:
        raise AttarError(
            "submit: there is no Slurm here (no srun); give slurm.cluster=local for processes of this machine"
        )
    bench.check()
    folder, count = bench.folder.resolve(), submission.count
    given = [one for one in overrides if not one.startswith(("out=", "share="))]
    parts = [
        PartOfSuite(
            str(suite.resolve()),
            (*given, f"out={folder}", f"share={number}/{count}"),
            against,
            tuple(str(file.resolve()) for file in plugins),
        )
        for number in range(1, count + 1)
    ]
    try:
        cluster = submission.cluster
        limit = {f"{cluster}_max_num_timeout": MOST_REQUEUES}
        executor = submitit.AutoExecutor(folder=folder / FOLDER, cluster=cluster, **limit)
        keys = {"name": folder.name, "timeout_min": MINUTES, **submission.parameters}
        executor.update_parameters(**{key if key in SHARED else f"{cluster}_{key}": one for key, one in keys.items()})
        jobs: list[Any] = executor.submit_array(parts)
    except (NameError, ValueError, TypeError, RuntimeError) as error:
        raise AttarError(f"submitit refuses: {' '.join(str(error).split())}") from None
    return jobs


@contextmanager
def requeued_when_preempted() -> Iterator[None]:
    """Let submitit requeue this job when the scheduler is about to end it, after what runs has saved.

    submitit's own handler of that signal (SIGUSR2) requeues at once, in the middle of a step, and its handler of
    SIGTERM ignores the signal. Here the first asks the training to save and stop before submitit's handler runs; the
    second asks it to save and stop for good.
    """
    number = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}")
    requeue = signal.getsignal(number)
    preempted = False
    with stop_requests() as stop:

        def ask(number: int, frame: FrameType | None) -> None:
            nonlocal preempted
            preempted = stop.requested = True

        signal.signal(number, ask)
        try:
            yield
        except Stopped:
            if preempted and callable(requeue):
                requeue(number, None)
            raise
        finally:
            signal.signal(number, requeue)
