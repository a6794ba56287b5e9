"""The progress of a training: a live bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from attar.train.running_means import RunningMeans

# Reading the losses waits for the device, so the bar is refreshed this seldom.
REFRESH_SECONDS = 0.5


def moves(console: Console) -> bool:
    """Whether lines may move: in a terminal, and in a notebook that has ipywidgets."""
    return find_spec("ipywidgets") is not None if console.is_jupyter else console.is_terminal


def default_console() -> Console:
    """Where a call without a console prints: as text in a notebook without ipywidgets, where nothing could move."""
    console = Console()
    # Kernels set FORCE_COLOR, by which rich would take a notebook for a terminal.
    plain = console.is_jupyter and not moves(console)
    return Console(force_jupyter=False, force_terminal=False) if plain else console


class OnlyBars(Console):
    """A console that shows what moves and drops every line of text."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Only what is no text: bars, and what clears them."""
        if not any(isinstance(one, str) for one in objects):
            super().print(*objects, **options)


def only_bars(console: Console) -> Console:
    """Where a training shows its bars and prints nothing; quiet where nothing can move."""
    if not console.is_terminal or console.is_jupyter:
        return Console(quiet=True)
    colours: Any = console.color_system
    return OnlyBars(file=console.file, force_terminal=True, color_system=colours, width=console.width)


def bars(console: Console, state: str) -> Bar:
    """Bars that are there where lines may move, and only while something goes on; `state` stands behind each."""
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn(state),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not moves(console),
    )


class Progress:
    """Progress of one training.

    Args:
        console: where to print.
        title: what is being trained.
        epochs: how many epochs there are.
        steps: how many steps an epoch has.
        batch_size: samples per step.
        accumulate: steps between two calls of `step`.
        on_epoch: called with each epoch's record and its samples per second.
        sample: what a sample is called.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        epochs: int,
        steps: int,
        batch_size: int,
        accumulate: int = 1,
        on_epoch: Callable[[dict[str, Any], float], None] | None = None,
        sample: str = "sample",
    ) -> None:
        self.sample = sample
        self.console, self.title, self.epochs, self.steps, self.batch_size = console, title, epochs, steps, batch_size
        self.accumulate, self.on_epoch = accumulate, on_epoch
        self._epoch, self._from = -1, 0
        self._next = 0.0
        self._since: tuple[float, int] | None = None
        self._bar = bars(console, "{task.fields[state]}")
        self._task = self._bar.add_task(title, total=epochs * steps, state="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def log(self, line: str) -> None:
        """A line of its own."""
        self.console.print(f"{self.title}: {line}", markup=False, highlight=False, soft_wrap=True)

    def step(self, epoch: int, step: int, running: RunningMeans) -> None:
        """One step is done."""
        if epoch != self._epoch:  # a resumed process may begin an epoch in its middle
            self._epoch, self._from = epoch, step // self.accumulate * self.accumulate
        now = time.perf_counter()
        if not moves(self.console) or now < self._next:
            return
        self._next = now + REFRESH_SECONDS
        done = epoch * self.steps + step + 1
        speed = ""
        if self._since:
            speed = f" {(done - self._since[1]) * self.batch_size / (now - self._since[0]):,.0f} {self.sample}s/s"
        self._since = (now, done)
        means = running.means()
        score = "".join(f" {key} {means[key]:.1f}" for key in means if key.startswith("train_"))
        state = f"{epoch + 1}/{self.epochs} loss {means['loss']:.3f}{score}{speed}"
        self._bar.update(self._task, completed=done, state=state)

    def epoch(self, record: dict[str, Any], seconds: float) -> None:
        """An epoch is done."""
        speed = (self.steps - self._from) * self.batch_size / seconds
        if self.on_epoch:
            self.on_epoch(record, speed)
        self._bar.update(self._task, completed=record["epoch"] * self.steps)
        every = max(1, self.epochs // 10)
        if record["epoch"] % every and record["epoch"] != self.epochs:
            return
        parts = [f"epoch {record['epoch']:>{len(str(self.epochs))}}/{self.epochs}", f"loss {record['loss']:.3f}"]
        for label in ("train", "val"):  # the primary measure comes first
            found = [value for key, value in record.items() if key.startswith(f"{label}_")]
            parts += [f"{label} {value:.2f}" for value in found[:1]]
        parts.append(f"{speed:,.0f} {self.sample}s/s")
        self.log("  ".join(parts))
