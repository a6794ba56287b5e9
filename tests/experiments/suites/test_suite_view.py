"""What is shown while a suite runs."""

import io
import time

import pytest
from rich.console import Console

from attar.experiments.suites.attempts import Outcome
from attar.experiments.suites.cells import cells_of
from attar.experiments.suites.queue import Queue
from attar.experiments.suites.suite_view import SuiteView
from attar.files import write_json
from attar.report.tables import Table


@pytest.fixture
def queue(tmp_path):
    suite = {
        "methods": ["kd", "dkd"],
        "pairs": [{"teacher": {"name": "resnet14", "weights": "a"}, "student": "resnet8"}],
    }
    return Queue(cells_of({**suite, "seeds": [0, 1]}, {"data": {"name": "digits"}}, tmp_path), tmp_path, tmp_path / "c")


def view_of(queue, terminal, jobs=1):
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None, height=30)
    return SuiteView(console, queue, jobs, lambda: [Table("", ["method", "n"], [["kd", "1"]])])


def do(queue, view, seconds, state="done", reason=""):
    cell = queue.next()
    view.start(cell)
    write_json(queue.folder / cell.folder / "cell.json", {"seconds": seconds, "failed": reason, "begun": None})
    queue.note(cell, Outcome(state, reason))
    view.end(cell, Outcome(state, reason), "70.00 %")
    return cell


def test_plain_lines_have_the_score_the_time_and_what_is_left(queue):
    with view_of(queue, False) as view:
        do(queue, view, 120)
        do(queue, view, 60, "failed", "the loss is nan")
        do(queue, view, 120, "later")
    lines = view.console.file.getvalue().splitlines()
    assert lines[0] == "[1/4] kd, resnet14 -> resnet8, seed 0: 70.00 % (2 min), about 6 min left"
    assert lines[1] == "[2/4] failed: dkd, resnet14 -> resnet8, seed 0: the loss is nan, about 4 min left"
    assert len(lines) == 2


def test_several_at_a_time_are_sooner_done(queue):
    with view_of(queue, False, jobs=2) as view:
        do(queue, view, 120)
    assert "about 3 min left" in view.console.file.getvalue()


def test_a_terminal_has_a_table_that_fills(queue):
    with view_of(queue, True) as view:
        do(queue, view, 120)
        cell = queue.next()
        view.start(cell)
        (queue.folder / cell.folder).mkdir(parents=True)
        (queue.folder / cell.folder / "metrics.jsonl").write_text("{}\n{}\n")
        console = Console(file=io.StringIO(), width=80)
        console.print(view._drawing())
        shown = console.file.getvalue()
    assert shown.startswith("1 of 4 runs done, about ")
    assert f"  {cell.title}: epoch 2 of 10\n" in shown
    assert "method   n" in shown


def test_waiting_for_other_processes_is_shown_once(queue):
    with view_of(queue, False) as view:
        cell = queue.next()
        queue.note(cell, Outcome("later", ""))
        view.waits()
        view.waits()
    assert view.console.file.getvalue() == "waiting for 1 run of other processes; Ctrl-C leaves them\n"


def test_runs_that_were_done_before_count_for_the_time_left(queue):
    for cell in queue.work[:2]:
        write_json(queue.folder / cell.folder / "cell.json", {"seconds": 30.0, "failed": "", "begun": None})
        write_json(queue.folder / cell.folder / "results.json", {})
    view = view_of(queue, False)
    view.start(queue.next())
    queue.next()
    assert view.times.left(queue) == 2 * 30
    cell = queue.next()
    view.start(cell)
    assert view.times.left(queue) == pytest.approx(2 * 30 - (time.monotonic() - view.times.begun[cell.title]), abs=1)
