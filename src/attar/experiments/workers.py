"""A pool of worker processes for parallel runs."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from types import FrameType
from typing import Any, Protocol

from attar.errors import AttarError, Stopped
from attar.safety.signals import StopRequest, stop_requests

# How soon a request to stop is seen.
POLL_SECONDS = 0.2
# What a process that was asked to stop may take to save; its files are whole whenever it is killed.
LAST_SECONDS = 120.0
DIED = (
    "a process beside this one died, killed or out of memory; what was saved is kept. `attar resume` goes on (one at "
    "a time with `jobs: 1` in the run's recipe.yaml), or `attar bench` with a smaller jobs=. In a script of your own, "
    'the call must stand below `if __name__ == "__main__":`'
)

Task = tuple[Callable[..., Any], tuple[Any, ...]]


class Source(Protocol):
    """Hands out tasks one by one; which come next may hang on the results of others."""

    @property
    def count(self) -> int:
        """How many tasks wait."""

    def take(self) -> tuple[int, Task] | None:
        """The next task with its number; None where all that wait cannot begin yet."""


class Listed:
    """Tasks in the order of a list, whatever comes of them."""

    def __init__(self, tasks: list[Task]) -> None:
        self.waiting = list(enumerate(tasks))

    @property
    def count(self) -> int:
        return len(self.waiting)

    def take(self) -> tuple[int, Task] | None:
        return self.waiting.pop(0) if self.waiting else None


class Worker:
    """A process with a pipe of its own: processes share no lock that one of them could take along when it is killed.

    Args:
        context: how it is started.
        threads: of its computations.
        prepare: what it calls first.
    """

    def __init__(self, context: SpawnContext, threads: int, prepare: Callable[[], object] | None) -> None:
        self.connection, theirs = context.Pipe()
        self.task: int | None = None
        self.process = context.Process(target=_serve, args=(theirs, threads, prepare))
        self.process.start()
        theirs.close()

    def begin(self, number: int, task: Task) -> None:
        """Hand out a task; of a process that has died, `result` is the one to complain."""
        self.task = number
        with suppress(ConnectionError):
            self.connection.send(task)

    def result(self) -> Any:
        """What the task in hand returned; what it raised is raised here.

        Raises:
            AttarError: the process died.
        """
        try:
            error, value = self.connection.recv()
        except (EOFError, ConnectionError):
            raise AttarError(DIED) from None
        self.task = None
        if error is not None:
            raise error
        return value

    def end(self) -> None:
        """Wait for the process, which ends when its pipe does, after the task in hand."""
        self.connection.close()
        self.process.join(LAST_SECONDS)
        self.process.kill()
        self.process.join()


class WorkerPool:
    """Processes that each compute with some threads; when the block ends early they save and stop.

    A process has at most one task in hand and none in store, so that after a stop nothing else begins. A process whose
    parent has died saves and ends too. One that dies with nothing in hand is not missed.

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

    def results(self, tasks: list[Task] | Source) -> Iterator[tuple[int, Any]]:
        """Every task's number and result, as they come. A source gets each result before it hands out the next task.

        Raises:
            AttarError: a process died.
            Stopped: the process was asked to stop (SIGINT, SIGTERM); every task has saved what it can.
        """
        with _environment(OMP_NUM_THREADS=str(self.threads)), stop_requests() as stop:
            source = Listed(tasks) if isinstance(tasks, list) else tasks
            workers: list[Worker] = []
            early = True
            try:
                for _ in range(min(self.jobs, source.count)):
                    workers.append(Worker(multiprocessing.get_context("spawn"), self.threads, self.prepare))
                yield from self._in_order(workers, source, stop)
                early = False
            finally:
                _end(workers, early)

    def _in_order(self, workers: list[Worker], source: Source, stop: StopRequest) -> Iterator[tuple[int, Any]]:
        """Hand out a task to every process that has none."""
        while source.count or any(worker.task is not None for worker in workers):
            for worker in workers:
                if worker.task is None and (task := source.take()):
                    worker.begin(*task)
            busy = {worker.connection: worker for worker in workers if worker.task is not None}
            done = wait(list(busy), POLL_SECONDS)
            if self.meanwhile:
                self.meanwhile()
            if stop.requested:
                raise Stopped
            for worker in (busy[connection] for connection in done):  # type: ignore[index]
                number = worker.task
                assert number is not None
                yield number, worker.result()


def _end(workers: list[Worker], early: bool) -> None:
    """End every process; where it is early, all are asked to save before the first is waited for."""
    for worker in workers:
        if early and worker.task is not None:
            worker.process.terminate()
    for worker in workers:
        worker.end()


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


def _serve(connection: Connection, threads: int, prepare: Callable[[], object] | None) -> None:
    """One task after another, until the pipe ends."""
    _start(threads, prepare)
    while True:
        try:
            function, arguments = connection.recv()
            connection.send(_outcome(function, arguments))
        except (EOFError, ConnectionError):
            return


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[BaseException | None, Any]:
    """What a task raised, and what it returned; an error that cannot be sent is sent as its text."""
    try:
        return None, _task(function, *arguments)
    except BaseException as error:
        if not isinstance(error, AttarError | Stopped):
            traceback.print_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeError(f"{type(error).__name__}: {error}"), None
        return error, None


def _start(threads: int, prepare: Callable[[], object] | None) -> None:
    import torch

    torch.set_num_threads(threads)
    # Ctrl-C would reach every process of the terminal, and a second request interrupts: the parent sends the only one.
    if hasattr(os, "setsid"):
        os.setsid()
    # With nothing in hand there is nothing to save; the process ends with its pipe. A task that is on its way does not
    # begin any more.
    signal.signal(signal.SIGTERM, lambda number, frame: _stopping.set())
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
_stopping = threading.Event()


def _task(function: Callable[..., Any], *arguments: Any) -> Any:
    """One task; a request to stop ends it, also where it is not in a training loop that saves first."""
    idle = signal.signal(signal.SIGTERM, _stop)
    try:
        if _stopping.is_set():
            raise Stopped
        with _busy:
            return function(*arguments)
    finally:
        signal.signal(signal.SIGTERM, idle)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped
