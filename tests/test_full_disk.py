"""A disk that is full for a command: one line, whichever library was writing."""

import sys
from multiprocessing import get_context

import pytest

pytest.importorskip("PIL.Image")
if sys.platform == "win32":
    pytest.skip("Windows has no limit on files", allow_module_level=True)

import disks
import folders


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return folders.make_run(tmp_path_factory.mktemp("full") / "whole")


@pytest.mark.parametrize("command", ["distill, non-finite", "report", "export safetensors", "methods --svg"])
@pytest.mark.parametrize("limit", [0, 300])
def test_a_full_disk_is_one_line(finished, tmp_path, command, limit):
    outcome, text = disks.outcome_of(disks.WRITERS[command], limit, finished, tmp_path / "at")
    assert outcome == "refused", text


def failing_run(limit, whole, at):
    return disks.outcome_of(disks.WRITERS["distill, non-finite"], limit, whole, at)


@pytest.mark.slow
def test_a_failure_that_does_not_fit_is_one_line(finished, tmp_path):
    # Of a new process: one that has computed gradients cannot be forked and compute more.
    with get_context("spawn").Pool(1) as pool:
        outcome, text = pool.apply(failing_run, (30_000, finished, tmp_path / "at"))
    assert outcome == "refused", text
    assert "failure.pt: File too large; what was there before is kept" in text


@pytest.mark.slow
def test_every_command_on_every_disk(tmp_path):
    assert [row for row in disks.rows(1, 0, tmp_path) if not row["passed"]] == []
