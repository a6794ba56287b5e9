"""A seed that fails does not end the others, and every table says how many seeds its numbers are of."""

import io
import json
import shutil

import pytest
from rich.console import Console

from attar.deploy import load
from attar.errors import AttarError
from attar.experiments import job as jobs
from attar.experiments import launch
from attar.experiments.training import Training
from attar.recipe import read_recipe
from attar.report.run_page import write_report

VALUES = {
    "student": "resnet8",
    "data": {"name": "digits", "train_size": 40},
    "method": "supervised",
    "alone": "skip",
    "epochs": 1,
    "batch_size": 20,
    "seeds": 3,
    "precision": "float32",
}


def distil(folder, **values):
    console = Console(file=io.StringIO(), width=200)
    summary = launch.start(read_recipe(**{**VALUES, **values}, out=str(folder)), console)
    return summary, console.file.getvalue()


@pytest.fixture
def failing(monkeypatch):
    """Makes the trainings of these titles fail."""
    run, titles = Training.run, set()

    def maybe(self, console, runtime):
        if self.title in titles:
            raise AttarError("the loss is nan")
        return run(self, console, runtime)

    monkeypatch.setattr(Training, "run", maybe)
    return titles


def test_the_others_go_on_and_every_table_is_marked(tmp_path, failing, attar):
    failing |= {"supervised seed 0"}
    folder = tmp_path / "run"
    summary, printed = distil(folder)
    assert "failed: seed 0: the loss is nan\n" in printed
    assert (summary.failed, summary.seeds, len(summary.runs)) == ({0: "the loss is nan"}, [1, 2], 2)
    assert summary.student == folder / "seed1" / "student.safetensors"
    assert summary.score_table().rows[0][1].endswith(" (n=2, 1 failed)")
    assert "2 seeds" in summary.score_table().title
    assert "Seed 0 failed: the loss is nan" in summary.hints()
    page = write_report(folder).read_text(encoding="utf-8")
    assert "(n=2, 1 failed)" in page
    assert "Seed 0 failed: the loss is nan" in page
    shutil.copytree(folder, tmp_path / "copy")
    status, out, err = attar("compare", "run", "copy", "out=both.html")
    assert status == 0, err
    assert "(n=2, 1 failed)" in " ".join(out.split())
    assert "(n=2, 1 failed)" in (tmp_path / "both.csv").read_text()
    failing.clear()
    again = launch.resume(folder, Console(file=io.StringIO()))
    assert (again.failed, len(again.runs)) == ({}, 3)
    assert "failed" not in json.loads((folder / "results.json").read_text())


def test_a_command_with_a_failed_seed_prints_its_tables_and_has_status_2(failing, attar):
    failing |= {"supervised seed 1"}
    status, out, _ = attar("train", "student=resnet8", "data.train_size=40", "epochs=1", "batch_size=20", "seeds=2",
                           "precision=float32", "out=run")  # fmt: skip
    assert status == 2
    assert "(n=1, 1 failed)" in out
    assert "Seed 1 failed: the loss is nan" in out


def test_where_every_seed_fails_the_reason_is_the_error(tmp_path, failing):
    failing |= {f"supervised seed {seed}" for seed in range(3)}
    with pytest.raises(AttarError, match=r"^the loss is nan$"):
        distil(tmp_path / "run")
    assert not (tmp_path / "run" / "results.json").exists()


def test_one_that_fails_beside_the_others_is_not_tried_again(tmp_path, failing, monkeypatch):
    def in_this_process(specs, work, runs, each, prepare, console):
        prepare()
        return [(spec, reason) for spec in specs if (reason := work(spec))]

    monkeypatch.setattr(jobs, "side_by_side", in_this_process)
    failing |= {"supervised seed 1"}
    summary, printed = distil(tmp_path / "run", jobs=2)
    jobs._reopened.cache_clear()
    assert list(summary.failed) == [1]
    assert printed.count("the loss is nan") == 1
    assert "failed: supervised seed 1: the loss is nan" in printed
    assert load(tmp_path / "run" / "seed2").spec["name"] == "resnet8"
