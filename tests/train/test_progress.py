"""Bars where lines can move: in a terminal, and in a notebook that has ipywidgets; elsewhere plain lines."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
import rich.console
from rich.console import Console

from attar.train import progress


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_has_bars_with_ipywidgets_and_text_without(monkeypatch, capsys, widgets: bool) -> None:
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as kernels do
    monkeypatch.setattr(progress, "find_spec", lambda name: object() if widgets else None)
    console = progress.default_console()
    assert (console.is_jupyter, progress.moves(console)) == (widgets, widgets)
    assert progress.bars(console, "").disable is not widgets
    if not widgets:
        with console.status("reading"):
            console.print("plain")
        assert capsys.readouterr().out == "plain\n"


def test_a_file_has_lines_and_a_terminal_bars() -> None:
    assert not progress.moves(Console(file=io.StringIO()))
    assert progress.moves(Console(file=io.StringIO(), force_terminal=True))


def test_a_bar_has_the_loss_the_score_and_the_speed(monkeypatch) -> None:
    """At most a few times a second, and the speed from the second time on."""
    clock = iter([10.0, 10.01, 12.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    printed = io.StringIO()
    running = SimpleNamespace(means=lambda: {"loss": 1.25, "train_top1": 40.0})
    with progress.Progress(Console(file=printed, force_terminal=True, width=120), "kd", 3, 10, 8) as bar:
        for step in (0, 1, 4):
            bar.step(1, step, running)
        (task,) = bar._bar.tasks
    assert task.completed == 15
    # Four more steps of 8 samples in two seconds.
    assert task.fields["state"] == "2/3 loss 1.250 train_top1 40.0 16 samples/s"


def test_a_console_of_bars_alone_shows_them_and_drops_lines() -> None:
    printed = io.StringIO()
    console = Console(file=printed, force_terminal=True, width=100)
    running = SimpleNamespace(means=lambda: {"loss": 1.25})
    with progress.Progress(progress.only_bars(console), "kd", 3, 10, 8) as bar:
        bar.log("a line of text")
        bar.step(1, 0, running)
    assert "2/3 loss 1.250" in printed.getvalue()
    assert "a line of text" not in printed.getvalue()
    assert progress.only_bars(Console(file=io.StringIO())).quiet
