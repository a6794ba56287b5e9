"""Suites: every combination runs once, and what is there is not done again."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from attar import files
from attar.accel import runtime as timing
from attar.accel.threads import Share
from attar.errors import AttarError, Stopped
from attar.experiments import build as building
from attar.experiments import launch
from attar.experiments.runtime_choice import RuntimeChoice
from attar.experiments.suites import attempts, queue
from attar.experiments.suites import bench as room
from attar.experiments.suites.attempts import Outcome
from attar.experiments.suites.bench import Bench, read_suite
from attar.experiments.suites.cells import Cell
from attar.experiments.suites.suite_view import SuiteView
from attar.experiments.training import Training
from attar.models import Plain
from attar.profiling import threads
from attar.recipe import read_recipe
from attar.report.tables import Table
from attar.safety import locks as lock
from attar.teachers import selection
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


def scores(tables: list[Table]) -> list[list[str]]:
    """What is in a table but for times."""
    return [row[: tables[0].columns.index("minutes")] for table in tables for row in table.rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Bench:
    bench = suite(tmp_path_factory.mktemp("bench"))
    bench.run()
    return bench


def test_every_combination_has_a_folder_and_a_place_in_the_table(finished: Bench) -> None:
    tables = finished.tables()
    table = tables.pair_table("resnet14 -> resnet8")
    assert [row[:2] for row in table.rows] == [
        ["resnet14 (teacher)", "2"],
        ["supervised", "2"],
        ["kd temperature=2", "2"],
    ]
    assert all(row[table.columns.index("minutes")] for row in table.rows[1:])
    assert all((finished.folder / cell.folder / "student.safetensors").exists() for cell in finished.cells)
    assert (finished.folder / "table.md").read_text() == tables.markdown()
    assert (finished.folder / "table.tex").read_text() == tables.latex()
    with (finished.folder / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert [(run["row"], run["seed"], run["state"]) for run in runs] == [
        (row, seed, "done") for seed in "01" for row in ("supervised", "kd temperature=2")
    ]
    assert "2 methods, 1 pair, 2 seeds: 4 of 4 runs done" in (finished.folder / "report.html").read_text()


def test_a_teacher_is_trained_once_for_each_seed_and_its_students_are_as_if_they_had_trained_it(
    finished: Bench, tmp_path: Path
) -> None:
    """Bit for bit; also the supervised student, whose agreement with the teacher is measured."""
    teachers = sorted(finished.folder.glob("teachers/*/*/student.safetensors"))
    assert [file.parent.name for file in teachers] == ["seed0", "seed1"]
    assert len(list(finished.folder.rglob("teacher/scores.json"))) == 4  # measured, for each student's page
    assert not list(finished.folder.rglob("teacher/checkpoint.pt"))
    cell = next(cell for cell in finished.cells if cell.title.startswith("kd") and cell.seed == 1)
    launch.start(read_recipe(**cell.untrained, out=str(tmp_path / "alone")), Console(quiet=True))
    for name, other in (("student.safetensors", finished.folder / cell.folder), ("teacher", teachers[1].parent)):
        mine = tmp_path / "alone" / name
        mine = mine / "student.safetensors" if mine.is_dir() else mine
        weights, others = load_file(mine), load_file(other / "student.safetensors")
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[key], others[key]) for key in weights)


@pytest.mark.slow
def test_a_suite_whose_folder_has_moved_goes_on_with_its_teachers(finished: Bench, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "out")
    moved = suite(tmp_path)
    place = moved.folder / moved.cells[1].folder
    for name in ("results.json", "scores.json"):
        (place / name).unlink()
    assert scores(moved.run()) == scores(finished.tables().short_tables())
    assert str(tmp_path) in (place / "recipe.yaml").read_text()


def test_finished_runs_are_read_not_repeated(finished: Bench, monkeypatch) -> None:
    monkeypatch.setattr(launch, "prepare", lambda *_: pytest.fail("a finished run was started again"))
    monkeypatch.setattr(launch, "reopen", lambda *_: pytest.fail("a finished run was resumed"))
    again = Bench(finished.cells, finished.folder, Console(file=io.StringIO()), finished.control)
    assert scores(again.run()) == scores(finished.tables().short_tables())


def test_a_broken_run_is_resumed(finished: Bench) -> None:
    (finished.folder / finished.cells[0].folder / "results.json").unlink()
    again = Bench(finished.cells, finished.folder, Console(file=io.StringIO()), finished.control)
    assert scores(again.run()) == scores(finished.tables().short_tables())


def test_a_report_that_a_killed_process_did_not_come_to_is_written(finished: Bench, tmp_path: Path) -> None:
    """Also a teacher's; the numbers stay, and without it a table is complete all the same."""
    shutil.copytree(finished.folder, tmp_path / "out")
    bench = suite(tmp_path)
    places = [bench.folder / cell.folder for cell in (bench.cells[0].teachers[0], bench.cells[2])]
    results = [(place / "results.json").read_text() for place in places]
    for place in places:
        (place / "report.html").unlink()
    (places[1] / "checkpoint.pt").unlink()
    (places[1] / "scores.json").unlink()  # only its results are kept
    assert scores(bench.run()) == scores(finished.tables().short_tables())
    assert [(place / "report.html").exists() for place in places] == [True, False]
    assert (places[1] / "results.json").read_text() == results[1]
    assert (
        json.loads((places[0] / "results.json").read_text())["runs"][0]["student"]["scores"]
        == (json.loads(results[0])["runs"][0]["student"]["scores"])
    )


def test_a_run_of_another_recipe_in_its_place_is_refused_before_anything_runs(finished: Bench) -> None:
    other = suite(finished.folder.parent, overrides=("optim.lr=0.01",))
    with pytest.raises(AttarError, match=r"the suite cannot begin: .*seed 0: .*holds a run with optim="):
        other.run()


def test_finished_runs_of_other_data_are_refused(finished: Bench, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "out")
    place = tmp_path / "out" / finished.cells[1].folder
    inputs = json.loads((place / "inputs.json").read_text())
    (place / "inputs.json").write_text(json.dumps({**inputs, "test images": "other"}))
    for cell in finished.cells:  # as if they had been made here
        recipe = tmp_path / "out" / cell.folder / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace(str(finished.folder), str(tmp_path / "out")))
    with pytest.raises(
        AttarError, match=r"cannot begin: kd temperature=2, .*, seed 0: .* began with other test images"
    ):
        suite(tmp_path).run()


def test_mistakes_of_any_run_show_before_the_first_begins(tmp_path: Path) -> None:
    bench = suite(tmp_path, SUITE.replace("{name: kd, temperature: 2}", "{name: kd, temprature: 2}"))
    with pytest.raises(AttarError, match=r"cannot begin: kd temprature=2, .* did you mean 'temperature'"):
        bench.run()
    bench = suite(
        tmp_path, SUITE.replace("pairs: [", "pairs: [{teacher: {name: resnet14, weights: no.pth}, student: resnet8}, ")
    )
    with pytest.raises(AttarError, match=r"cannot begin: .*no\.pth"):
        bench.run()
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_small_is_refused_before_the_first_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "free_space", lambda folder: 6_000_000)
    with pytest.raises(AttarError, match=r"out needs about \d+ MB, its disk has 6 MB free; make room, or choose"):
        suite(tmp_path).run()
    assert not (tmp_path / "out").exists()


def test_a_run_that_fails_is_marked_in_every_table_and_does_not_stop_the_others(
    finished: Bench, tmp_path: Path, monkeypatch
) -> None:
    done = attempts.work

    def work(cell: Cell, folder: Path, *arguments) -> None:
        if cell.row.startswith("kd") and cell.seed == 1:
            raise AttarError("the loss is nan")
        done(cell, folder, *arguments)

    shutil.copytree(finished.folder, tmp_path / "out")
    bench = suite(tmp_path)
    lost = tmp_path / "out" / bench.cells[-1].folder
    (lost / "results.json").unlink()
    monkeypatch.setattr(attempts, "work", work)
    with pytest.raises(AttarError, match=r"1 of 4 runs failed: kd temperature=2, .* seed 1: the loss is nan"):
        bench.run()
    row = bench.tables().pair_table("resnet14 -> resnet8").rows[-1]
    assert row[:2] == ["kd temperature=2", "1 of 2, 1 failed"]
    for file in ("table.md", "runs.csv", "report.html"):
        assert "the loss is nan" in (tmp_path / "out" / file).read_text()
    assert "failed: kd temperature=2, resnet14 -> resnet8, seed 1: the loss is nan" in bench.console.file.getvalue()
    monkeypatch.setattr(attempts, "work", done)  # the next time it is tried again
    assert scores(suite(tmp_path).run()) == scores(finished.tables().short_tables())
    assert json.loads((lost / "cell.json").read_text())["failed"] == ""


def test_a_run_that_gives_one_class_to_everything_is_named(finished: Bench, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "out")
    bench = suite(tmp_path)
    file = bench.folder / finished.cells[0].folder / "results.json"
    tree = json.loads(file.read_text())
    tree["runs"][0]["student"]["scores"]["per_class"] = [1.0, *[0.0] * 9]
    file.write_text(json.dumps(tree))
    bench.run()
    line = "supervised, resnet14 -> resnet8, seed 0: resnet8 trained: gives class 0 (of 0 to 9)"
    assert line in bench.console.file.getvalue()


def test_keys_of_the_common_recipe_complete_the_pairs(tmp_path: Path) -> None:
    bench = suite(tmp_path, SUITE, ("teacher.weights=file.pth",))
    teacher = bench.cells[0].values["teacher"]
    assert teacher == {"name": "resnet14", "epochs": 1, "precision": "float32", "weights": "file.pth"}
    assert bench.cells[0].teachers == ()


def test_the_packaged_suites_are_sound() -> None:
    suites = sorted((Path(__file__).parents[3] / "benchmarks" / "suites").glob("*.yaml"))
    assert suites
    assert all(read_suite(file, [], Console(file=io.StringIO())).cells for file in suites)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methods: [kd]", "needs `methods` and `pairs`"),
        ("methods: [kd\n", "is no YAML"),
        (SUITE + "sedes: 3", "did you mean 'seeds'"),
        (SUITE.replace("epochs: 1, b", "epoch: 1, b"), "did you mean 'epochs'"),
        (SUITE.replace("epochs: 1, b", "optim: {lrr: 1}, epochs: 1, b"), "'optim.lrr'; did you mean 'optim.lr'"),
        (SUITE.replace("epochs: 1, b", "optim: 5, epochs: 1, b"), "optim: expected a section of keys, got 5"),
        (SUITE.replace("epochs: 1, b", "epochs: [1, 2], b"), r"epochs: expected a whole number, got '\[1, 2\]'"),
        (SUITE.replace("supervised", "{name: supervised, patience: 2}"), "patience is the same for all methods"),
        (SUITE.replace("resnet14", "runs/gone"), "teacher=runs/gone: there is no such folder"),
    ],
)
def test_mistakes_show_before_the_first_run(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AttarError, match=message):
        suite(tmp_path, text)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow  # a job's trainings side by side: test_parallel.py
def test_runs_side_by_side_give_the_same_table(finished: Bench, tmp_path: Path) -> None:
    bench = suite(tmp_path, overrides=("jobs=2",))
    assert bench.jobs == 2
    assert scores(bench.run()) == scores(finished.tables().short_tables())
    log = (tmp_path / "out" / bench.cells[0].folder / "log.txt").read_text()
    assert "epoch 1/1" in log


@pytest.mark.slow
def test_unasked_runs_go_side_by_side_where_that_pays(finished: Bench, tmp_path: Path, monkeypatch) -> None:
    asked = []

    def share_of(self: RuntimeChoice, copies: int, apart: bool) -> Share:
        asked.append((self.recipe.method.name, copies, apart))
        return Share(1, 2, "2 trainings at a time, 1 thread each") if apart else Share(1)

    monkeypatch.setattr(RuntimeChoice, "share_of", share_of)
    bench = suite(tmp_path)
    assert bench.jobs is None
    assert bench._found_share().jobs == 1  # nobody said how a process begins
    bench.prepare = os.getpid
    assert scores(bench.run()) == scores(finished.tables().short_tables())
    assert asked == [("supervised", 4, False), ("supervised", 4, True)]
    assert (bench.folder / bench.cells[0].folder / "log.txt").exists()
    assert "2 trainings at a time" in bench.console.file.getvalue()
    assert suite(tmp_path)._share() == Share(1, 2, "2 trainings at a time, 1 thread each")  # kept for who goes on


def test_unasked_runs_take_turns_on_the_processor_where_nothing_is_gained(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Training, "step_seconds", lambda *_: 1000 / torch.get_num_threads())
    bench = suite(tmp_path)
    bench.prepare = os.getpid
    with threads(2):
        assert bench._found_share() == Share(2)
        monkeypatch.setattr(Training, "step_seconds", lambda *_: 1000.0)
        assert bench._found_share().jobs == 2
    assert suite(tmp_path, overrides=("jobs=3",))._share().jobs == 3


@pytest.mark.slow
def test_a_suite_chooses_once_whatever_the_clock_says_later(tmp_path: Path, monkeypatch) -> None:
    """One precision, one number of threads, one engine of a teacher that methods read alike, also for who goes on."""
    took = {"float32": 2.0, "bfloat16": 1.0, "engine": 0.5}
    monkeypatch.setattr(timing, "bfloat16_slowness", lambda: 1.0)
    monkeypatch.setattr(timing, "step_seconds", lambda method, losses, batch, runtime: took[runtime.precision])
    monkeypatch.setattr(selection, "seconds", lambda one, *_: 1.0 if isinstance(one, Plain) else took["engine"])
    monkeypatch.setattr(selection, "LABELS", 0.0)  # a teacher of one epoch wavers between classes
    text = SUITE.replace(", precision: float32", "").replace("methods: [supervised, ", "methods: [kd, ")
    run, runtimes = room.attempt_logged, []

    def attempted(cell: Cell, suite: Path, *arguments) -> Outcome:
        outcome, folder = run(cell, suite, *arguments), suite / cell.folder
        if cell.trains_teacher:
            return outcome
        runtimes.append(json.loads((folder / "environment.json").read_text())["runtime"])
        took.update(float32=1.0, bfloat16=2.0, engine=2.0)
        if len(runtimes) == 2:
            raise Stopped
        return outcome

    monkeypatch.setattr(room, "attempt_logged", attempted)
    threads_now = [2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads_now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: threads_now.__setitem__(0, count))
    with pytest.raises(Stopped):
        suite(tmp_path, text).run()
    threads_now[0] = 1
    suite(tmp_path, text).run()
    broken = tmp_path / "out" / suite(tmp_path, text).cells[0].folder
    for name in ("environment.json", "scores.json", "results.json"):
        (broken / name).unlink()
    launch.resume(broken, Console(file=io.StringIO()))  # without the suite's command
    runtimes.append(json.loads((broken / "environment.json").read_text())["runtime"])
    assert len(runtimes) == 7
    assert {one["precision"] for one in runtimes} == {"bfloat16"}
    assert {(one["threads"], one["teacher_threads"]) for one in runtimes} == {(2, 2)}
    assert {one["teachers"][0]["kind"] for one in runtimes} == {"folded"}


@pytest.mark.slow
def test_a_failure_beside_others_is_named(tmp_path: Path) -> None:
    text = SUITE.replace("pairs: [", "pairs: [{student: resnet8, optim: {lr: 1.0e+30, schedule: constant}}, ")
    text = text.replace("seeds: 2", "seeds: 1").replace("supervised, {name: kd, temperature: 2}", "supervised")
    with pytest.raises(AttarError, match=r"1 of 2 runs failed: supervised, resnet8, seed 0: .*nan"):
        suite(tmp_path, text, ("jobs=2",)).run()


@pytest.mark.parametrize("jobs", ["0", "two", "-1", "1.5"])
def test_jobs_is_a_count(tmp_path: Path, jobs: str) -> None:
    with pytest.raises(AttarError, match="jobs must be a whole number from 1"):
        suite(tmp_path, overrides=(f"jobs={jobs}",))


def test_shares_are_disjoint_and_whole(finished: Bench, tmp_path: Path) -> None:
    shares = [suite(tmp_path, overrides=(f"share={number}/3",)) for number in (1, 2, 3)]
    titles = [cell.title for bench in shares for cell in bench.own]
    assert sorted(titles) == sorted(cell.title for cell in finished.cells)


@pytest.mark.slow
def test_a_share_has_the_table_of_all_whoever_did_them(finished: Bench, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "out")
    shares = [suite(tmp_path, overrides=(f"share={number}/3",)) for number in (1, 2, 3)]
    assert scores(shares[2].run()) == scores(finished.tables().short_tables())


@pytest.mark.slow
def test_a_run_that_another_process_holds_is_waited_for(finished: Bench, tmp_path: Path, monkeypatch) -> None:
    """And done here as soon as its holder has gone."""
    shutil.copytree(finished.folder, tmp_path / "out")
    bench = suite(tmp_path)
    cell = bench.cells[-1]
    (bench.folder / cell.folder / "results.json").unlink()
    monkeypatch.setattr(queue, "LATER_SECONDS", 0.05)
    with ExitStack() as stack:
        stack.enter_context(lock.held(bench.folder / cell.folder / attempts.LEASE))
        monkeypatch.setattr(SuiteView, "waits", lambda self: stack.close())
        assert scores(bench.run()) == scores(finished.tables().short_tables())
    assert bench.failures == {}


@pytest.mark.parametrize(
    ("against", "control"), [((), "supervised"), (("kd",), "kd temperature=2"), (("literature",), "supervised")]
)
def test_the_control_is_named_or_the_first(tmp_path: Path, against: tuple[str, ...], control: str) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    bench = read_suite(tmp_path / "suite.yaml", [], Console(), against)
    assert (bench.control, bench.literature) == (control, "literature" in against)


@pytest.mark.parametrize(
    ("against", "message"),
    [(("kdd",), "unknown control 'kdd'"), (("kd",), "the name of 2 rows"), (("a", "b"), "give one control")],
)
def test_a_control_that_is_not_one_row_is_refused(tmp_path: Path, against: tuple[str, ...], message: str) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE.replace("temperature: 2", "temperature: [2, 4]"))
    with pytest.raises(AttarError, match=message):
        read_suite(tmp_path / "suite.yaml", [], Console(), against)


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


# That a pool of processes saves and stops when it is asked to: test_workers.py.
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_stopping_saves_every_run_beside_the_others(tmp_path: Path, how: signal.Signals, wait_for, is_free) -> None:
    """Each run saves, no other begins, nothing is left running; also where the parent is killed outright."""
    bench = suite(tmp_path, STOPPABLE)
    command = [sys.executable, "-c", "from attar.cli import main; main()", "bench", str(tmp_path / "suite.yaml")]
    folders = [tmp_path / "out" / cell.folder for cell in bench.cells]
    with subprocess.Popen([*command, f"out={tmp_path / 'out'}", "jobs=2"], stdout=subprocess.PIPE) as process:
        try:
            wait_for(lambda: all((folder / "checkpoint.pt").exists() for folder in folders[:2]))
            process.send_signal(how)
            assert process.wait(timeout=60) != 0
        finally:
            process.kill()  # where it did not end, on a machine that was too busy
    for folder in folders[:2]:
        wait_for(lambda folder=folder: is_free(folder / lock.NAME))
    # Who was asked to stop leaves a checkpoint inside an epoch, but for one in forty that had just finished it.
    assert any(checkpoint.restore(folder / "checkpoint.pt")[0].step for folder in folders[:2])
    assert not [folder for folder in folders if (folder / "results.json").exists()]
    assert not [folder for folder in folders[2:] if folder.exists()]


def measured(folder: Path) -> list[dict[str, str]]:
    """What is in the list of runs but for times."""
    with (folder / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if "latency" not in key and key != "seconds"} for row in rows]


@pytest.mark.slow
def test_killing_a_suite_at_ten_random_moments_changes_no_digit(tmp_path: Path) -> None:
    """Of runs side by side, the parent or its whole group killed outright or asked to stop; nothing is left behind."""
    (tmp_path / "suite.yaml").write_text(SUITE.replace("supervised, ", "supervised, sokd, "))
    command = [sys.executable, "-m", "attar", "bench", str(tmp_path / "suite.yaml"), "jobs=2"]

    def started(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, f"out={tmp_path / name}"], stdout=subprocess.DEVNULL, start_new_session=True)

    began = time.monotonic()
    assert started("whole").wait() == 0
    took, random = time.monotonic() - began, np.random.default_rng(0)

    def files(name: str) -> set[str]:
        return {str(file.relative_to(tmp_path / name)) for file in (tmp_path / name).rglob("*") if file.is_file()}

    for send, how, times in (
        (os.kill, signal.SIGKILL, 4),
        (os.killpg, signal.SIGKILL, 3),
        (os.kill, signal.SIGTERM, 3),
    ):
        name = f"{send.__name__} {how.name}"
        for _ in range(times):
            process = started(name)
            try:
                process.wait(timeout=took * random.uniform(0.3, 0.9))
            except subprocess.TimeoutExpired:
                send(process.pid, how)
                process.wait()
        assert started(name).wait() == 0
        assert measured(tmp_path / name) == measured(tmp_path / "whole")
        assert files(name) == files("whole")
