"""Processes for runs side by side."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import FrameType
from typing import Any

from attar.errors import AttarError, Stopped
from attar.safety.signals import StopRequest, stop_requests

# How soon a request to stop is seen.
POLL_SECONDS = 0.2
DIED = (
    "a process beside this one died, killed or out of memory; what was saved is kept. `attar resume` goes on (one at "
    "a time with `jobs: 1` in the run's recipe.yaml), or `attar bench` with a smaller jobs=. In a script of your own, "
    'the call must stand below `if __name__ == "__main__":`'
)

Task = tuple[Callable[..., Any], tuple[Any, ...]]


class WorkerPool:
    """Processes that each compute with some threads; when the block ends early they save and stop.

    A process has at most one task in hand and none in store, so that after a stop nothing else begins. A process whose
    parent has died saves and ends too.

    Args:
        jobs: how many.
        threads: of each. OpenMP reads the number when a process starts, so it is handed over by the environment.
        prepare: called in each before anything else; it must survive pickling.
        meanwhile: called here, a few times a second, while they work.
    """

    def __init__(
        self,
        jobs: int,
        threads: int,
        prepare: Callable[[], object] | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        self.jobs, self.threads, self.prepare, self.meanwhile = jobs, threads, prepare, meanwhile

    def results(self, tasks: list[Task]) -> Iterator[tuple[int, Any]]:
        """Every task's number and result, as they come.

        Raises:
            AttarError: a process died.
            Stopped: the process was asked to stop (SIGINT, SIGTERM); every task has saved what it can.
        """
        with _environment(OMP_NUM_THREADS=str(self.threads)), stop_requests() as stop:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(
                self.jobs, context, initializer=_start, initargs=(self.threads, self.prepare)
            ) as pool:
                try:
                    yield from self._in_order(pool, tasks, stop)
                except BrokenProcessPool:
                    raise AttarError(DIED) from None
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    for process in multiprocessing.active_children():
                        process.terminate()
                    raise

    def _in_order(self, pool: ProcessPoolExecutor, tasks: list[Task], stop: StopRequest) -> Iterator[tuple[int, Any]]:
        """Hand out as many tasks as there are processes: the pool would start those in its own store after a stop."""
        running: dict[Future[Any], int] = {}
        waiting = list(enumerate(tasks))
        while waiting or running:
            while waiting and len(running) < self.jobs:
                number, (function, arguments) = waiting.pop(0)
                running[pool.submit(_task, function, *arguments)] = number
            done = wait(running, POLL_SECONDS, FIRST_COMPLETED).done
            if self.meanwhile:
                self.meanwhile()
            if stop.requested:
                raise Stopped
            for future in done:
                yield running.pop(future), future.result()


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start(threads: int, prepare: Callable[[], object] | None) -> None:
    import torch

    torch.set_num_threads(threads)
    # Ctrl-C would reach every process of the terminal, and a second request interrupts: the parent sends the only one.
    if hasattr(os, "setsid"):
        os.setsid()
    # With nothing in hand there is nothing to save; the pool ends the process.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    threading.Thread(target=_follow, args=(multiprocessing.parent_process(),), daemon=True).start()
    if prepare:
        prepare()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    """Ask this process to stop when its parent is gone, and end it where it waits for a task."""
    parent.join()
    if _busy.locked():
        os.kill(os.getpid(), signal.SIGTERM)
    with _busy:
        os._exit(1)


_busy = threading.Lock()


def _task(function: Callable[..., Any], *arguments: Any) -> Any:
    """One task; a request to stop ends it, also where it is not in a training loop that saves first."""
    idle = signal.signal(signal.SIGTERM, _stop)
    try:
        with _busy:
            return function(*arguments)
    finally:
        signal.signal(signal.SIGTERM, idle)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped
