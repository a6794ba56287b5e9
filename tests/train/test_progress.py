"""Bars where lines can move: in a terminal, and in a notebook that has ipywidgets; elsewhere plain lines."""

from __future__ import annotations

import io

import pytest
import rich.console
from rich.console import Console

from attar.train import progress


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_has_bars_with_ipywidgets_and_text_without(monkeypatch, capsys, widgets: bool) -> None:
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
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
