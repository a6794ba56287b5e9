"""Processes for runs side by side."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Self


class WorkerPool(ProcessPoolExecutor):
    """Processes that each compute with some threads; when the block ends early they are asked to save and stop.

    Args:
        jobs: how many.
        threads: of each. OpenMP reads the number when a process starts, so it is handed over by the environment.
        prepare: called in each before anything else; it must survive pickling.
    """

    def __init__(self, jobs: int, threads: int, prepare: Callable[[], object] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        super().__init__(jobs, context, initializer=_start, initargs=(threads, prepare))
        self._before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(threads)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is not None:
            self.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                if process.pid:
                    os.kill(process.pid, signal.SIGTERM)
        try:
            return super().__exit__(kind, error, trace)
        finally:
            signal.signal(signal.SIGTERM, self._term)
            if self._before is None:
                os.environ.pop("OMP_NUM_THREADS", None)
            else:
                os.environ["OMP_NUM_THREADS"] = self._before

    def __enter__(self) -> Self:
        self._term = signal.signal(signal.SIGTERM, signal.default_int_handler)
        return self


def _start(threads: int, prepare: Callable[[], object] | None) -> None:
    import torch

    torch.set_num_threads(threads)
    # Ctrl-C would reach every process of the terminal, and a second request interrupts: the parent sends the only one.
    if hasattr(os, "setsid"):
        os.setsid()
    if prepare:
        prepare()
