"""Suites: every combination runs once, and what is there is not done again."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from attar.accel.threads import Share
from attar.errors import AttarError
from attar.experiments import build as building
from attar.experiments import launch as starting
from attar.experiments.bench import Bench, read_suite
from attar.experiments.job import Job
from attar.experiments.training import Training
from attar.profiling import threads
from attar.safety import locks as lock
from attar.train import checkpoint

SUITE = """
methods: [supervised, {name: kd, temperature: 2}]
pairs: [{teacher: {name: resnet14, epochs: 1, precision: float32}, student: resnet8}]
seeds: 2
recipe: {data: {name: digits, train_size: 60}, epochs: 1, batch_size: 20, precision: float32}
"""


def suite(folder: Path, text: str = SUITE, overrides: tuple[str, ...] = ()) -> Bench:
    (folder / "suite.yaml").write_text(text)
    return read_suite(folder / "suite.yaml", [f"out={folder / 'out'}", *overrides], Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Bench:
    bench = suite(tmp_path_factory.mktemp("bench"))
    bench.run()
    return bench


def test_every_combination_has_a_folder_and_a_place_in_the_table(finished: Bench) -> None:
    table = finished.table()
    assert table.columns == ["method", "resnet14 -> resnet8"]
    assert [row[0] for row in table.rows] == ["supervised", "kd temperature=2"]
    assert all("±" in row[1] for row in table.rows)
    assert all((finished.folder / cell.folder / "student.safetensors").exists() for cell in finished.cells)
    assert (finished.folder / "table.md").read_text() == table.markdown() + "\n"
    assert (finished.folder / "table.csv").read_text() == table.csv()


def test_finished_runs_are_read_not_repeated(finished: Bench, monkeypatch) -> None:
    monkeypatch.setattr(starting, "prepare", lambda *_: pytest.fail("a finished run was started again"))
    monkeypatch.setattr(starting, "reopen", lambda *_: pytest.fail("a finished run was resumed"))
    again = Bench(finished.cells, finished.folder, Console(file=io.StringIO()))
    assert again.run() == finished.table()


def test_a_broken_run_is_resumed(finished: Bench) -> None:
    (finished.folder / finished.cells[0].folder / "results.json").unlink()
    again = Bench(finished.cells, finished.folder, Console(file=io.StringIO()))
    assert again.run() == finished.table()


def test_a_run_of_another_recipe_in_its_place_is_refused(finished: Bench) -> None:
    other = suite(finished.folder.parent, overrides=("optim.lr=0.01",))
    with pytest.raises(AttarError, match=r"4 of 4 runs failed: .*holds a run with optim="):
        other.run()


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path) -> None:
    bench = suite(tmp_path, SUITE.replace("{name: kd, temperature: 2}", "{name: kd, temprature: 2}"))
    with pytest.raises(AttarError, match=r"2 of 4 runs failed: .*did you mean 'temperature'"):
        bench.run()
    assert "supervised" in (tmp_path / "out" / "table.md").read_text()


def test_keys_of_the_common_recipe_complete_the_pairs(tmp_path: Path) -> None:
    bench = suite(tmp_path, SUITE, ("teacher.weights=file.pth",))
    assert bench.cells[0].values["teacher"] == {
        "name": "resnet14",
        "epochs": 1,
        "precision": "float32",
        "weights": "file.pth",
    }


def test_the_packaged_suites_are_sound() -> None:
    suites = sorted((Path(__file__).parents[2] / "benchmarks" / "suites").glob("*.yaml"))
    assert suites
    assert all(read_suite(file, [], Console(file=io.StringIO())).cells for file in suites)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methods: [kd]", "needs `methods` and `pairs`"),
        ("methods: [kd\n", "is no YAML"),
        (SUITE + "sedes: 3", "did you mean 'seeds'"),
        (SUITE.replace("epochs: 1, b", "epoch: 1, b"), "did you mean 'epochs'"),
    ],
)
def test_mistakes_show_before_the_first_run(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AttarError, match=message):
        suite(tmp_path, text)
    assert not (tmp_path / "out").exists()


def test_runs_side_by_side_give_the_same_table(finished: Bench, tmp_path: Path) -> None:
    bench = suite(tmp_path, overrides=("jobs=2",))
    assert bench.jobs == 2
    assert bench.run() == finished.table()
    log = (tmp_path / "out" / bench.cells[0].folder / "log.txt").read_text()
    assert "epoch 1/1" in log


def test_unasked_runs_go_side_by_side_where_that_pays(finished: Bench, tmp_path: Path, monkeypatch) -> None:
    asked = []

    def share_of(self: Job, copies: int) -> Share:
        asked.append((self.recipe.method.name, copies))
        return Share(1, 2, "2 trainings at a time, 1 thread each")

    monkeypatch.setattr(Job, "share_of", share_of)
    bench = suite(tmp_path)
    assert bench.jobs is None
    assert bench._share().jobs == 1  # it is not known how a process begins
    bench.prepare = os.getpid
    assert bench.run() == finished.table()
    assert asked == [("supervised", 4)]
    assert (bench.folder / bench.cells[0].folder / "log.txt").exists()
    assert "2 trainings at a time" in bench.console.file.getvalue()
    assert suite(tmp_path)._share() == Share(1, 2, "2 trainings at a time, 1 thread each")  # kept for who goes on


def test_unasked_runs_take_turns_on_the_processor_where_nothing_is_gained(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Training, "step_seconds", lambda *_: 1000 / torch.get_num_threads())
    bench = suite(tmp_path)
    bench.prepare = os.getpid
    with threads(2):
        assert bench._share() == Share(2)
        monkeypatch.setattr(Training, "step_seconds", lambda *_: 1000.0)
        assert bench._share().jobs == 2
    assert suite(tmp_path, overrides=("jobs=3",))._share().jobs == 3


def test_a_failure_beside_others_is_named(tmp_path: Path) -> None:
    bench = suite(tmp_path, SUITE.replace("{name: kd, temperature: 2}", "{name: kd, temprature: 2}"), ("jobs=2",))
    with pytest.raises(AttarError, match=r"2 of 4 runs failed: .*did you mean 'temperature'"):
        bench.run()


@pytest.mark.parametrize("jobs", ["0", "two", "-1", "1.5"])
def test_jobs_is_a_count(tmp_path: Path, jobs: str) -> None:
    with pytest.raises(AttarError, match="jobs must be a whole number from 1"):
        suite(tmp_path, overrides=(f"jobs={jobs}",))


def test_an_override_of_earlier_versions_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(AttarError, match="unknown key of a suite: 'together'; it is gone"):
        suite(tmp_path, overrides=("together=3",))


def test_the_runs_of_a_suite_read_their_images_once(tmp_path: Path, monkeypatch) -> None:
    read, read_splits = [], building.read_splits
    monkeypatch.setattr(building, "read_splits", lambda *given: read.append(given) or read_splits(*given))
    suite(tmp_path, SUITE.replace("seeds: 2", "seeds: 1")).run()
    assert len(read) == 1


STOPPABLE = """
methods: [supervised]
pairs: [{student: resnet8}]
seeds: 4
recipe: {data: {name: digits, train_size: 800}, epochs: 500, batch_size: 20, precision: float32}
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_stopping_saves_every_run_beside_the_others(tmp_path: Path, how: signal.Signals, wait_for, is_free) -> None:
    """Each run saves, no other begins, nothing is left running; also where the parent is killed outright."""
    bench = suite(tmp_path, STOPPABLE)
    command = [sys.executable, "-c", "from attar.cli import main; main()", "bench", str(tmp_path / "suite.yaml")]
    folders = [tmp_path / "out" / cell.folder for cell in bench.cells]
    with subprocess.Popen([*command, f"out={tmp_path / 'out'}", "jobs=2"], stdout=subprocess.PIPE) as process:
        wait_for(lambda: all((folder / "checkpoint.pt").exists() for folder in folders[:2]))
        process.send_signal(how)
        assert process.wait(timeout=60) != 0
    for folder in folders[:2]:
        wait_for(lambda folder=folder: is_free(folder / lock.NAME))
    # Who was asked to stop leaves a checkpoint inside an epoch, but for one in forty that had just finished it.
    assert any(checkpoint.restore(folder / "checkpoint.pt")[0].step for folder in folders[:2])
    assert not [folder for folder in folders if (folder / "results.json").exists()]
    assert not [folder for folder in folders[2:] if folder.exists()]
