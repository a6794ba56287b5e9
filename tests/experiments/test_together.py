"""Runs that take turns in one process: batches and teacher once for all, and every run ends as it would alone."""

from __future__ import annotations

import io
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console

from attar.data import DeviceLoader, load_data
from attar.errors import AttarError, Stopped
from attar.experiments.bench import Bench, gathered, read_suite
from attar.experiments.shared_batches import Classroom
from attar.safety.signals import stop_requests
from attar.teachers.engines import Kept
from attar.train import checkpoint
from attar.train.turns import finish, take_turns

SUITE = """
methods: [kd, at, {name: fitnet, stage: 1}, supervised]
pairs: [{teacher: {name: resnet14, epochs: 1}, student: resnet8}]
seeds: 1
recipe: {data: {name: digits, train_size: 60}, epochs: 3, batch_size: 20, precision: float32}
"""
FILES = ("student.safetensors", "metrics.jsonl", "teacher/student.safetensors")


def suite(folder: Path, *overrides: str, text: str = SUITE) -> Bench:
    folder.mkdir(exist_ok=True)
    (folder / "suite.yaml").write_text(text)
    return read_suite(folder / "suite.yaml", [f"out={folder / 'out'}", *overrides], Console(file=io.StringIO()))


def contents(bench: Bench) -> dict[str, bytes]:
    return {
        f"{cell.folder}/{name}": (bench.folder / cell.folder / name).read_bytes()
        for cell in bench.cells
        for name in FILES
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Bench:
    bench = suite(tmp_path_factory.mktemp("alone"))
    bench.run()
    return bench


@pytest.mark.parametrize("how", [("together=4",), ("together=3", "jobs=2")])
def test_runs_that_take_turns_end_as_alone_to_the_last_bit(alone: Bench, tmp_path: Path, how: tuple[str, ...]) -> None:
    bench = suite(tmp_path, *how)
    assert bench.run() == alone.table()
    assert contents(bench) == contents(alone)
    assert "epoch 3/3" in (bench.folder / bench.cells[1].folder / "log.txt").read_text()


def test_the_teacher_is_computed_once_a_batch(tmp_path: Path, monkeypatch) -> None:
    asked, computed = [], []
    ask = Kept.__call__

    def counted(self: Kept, images, taps=()):
        before = self._last
        said = ask(self, images, taps)
        asked.append(taps)
        computed.extend([taps] * (self._last is not before))
        return said

    monkeypatch.setattr(Kept, "__call__", counted)
    suite(tmp_path, "together=4").run()
    assert len(asked) == 3 * 9  # three methods with a teacher, nine steps
    # In the first step the second of them asks for features that the first had not asked for.
    assert len(computed) == 9 + 1


def test_stopping_saves_every_run_and_the_same_command_goes_on(alone: Bench, tmp_path: Path, monkeypatch) -> None:
    bench, epoch = suite(tmp_path, "together=4"), DeviceLoader.epoch

    def interrupted(self: DeviceLoader, number: int, start_step: int = 0):
        for batch in epoch(self, number, start_step):
            if (number, batch.address.step) == (1, 1) and self.shuffle:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(DeviceLoader, "epoch", interrupted)
        with pytest.raises(Stopped):
            bench.run()
    states = [checkpoint.restore(bench.folder / cell.folder / "checkpoint.pt")[0] for cell in bench.cells]
    assert [(state.epoch, state.step) for state in states] == [(1, 2)] * 4
    assert suite(tmp_path, "together=4").run() == alone.table()
    assert contents(bench) == contents(alone)


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path) -> None:
    bench = suite(tmp_path, "together=4", text=SUITE.replace("stage: 1", "stage: 7"))
    with pytest.raises(AttarError, match="1 of 4 runs failed: fitnet stage=7"):
        bench.run()
    assert len(bench.accuracies) == 3


@pytest.mark.parametrize("count", ["0", "two"])
def test_together_is_a_count(tmp_path: Path, count: str) -> None:
    with pytest.raises(AttarError, match="together must be a whole number from 1"):
        suite(tmp_path, f"together={count}")


def test_only_runs_that_see_the_same_batches_take_turns(tmp_path: Path) -> None:
    pairs = "[{student: resnet8}, {student: resnet14}, {student: resnet14, batch_size: 10}]"
    text = f"methods: [kd, dml]\npairs: {pairs}\nseeds: 2\nrecipe: {{teacher: resnet20, data: digits}}"
    groups = list(gathered(suite(tmp_path, text=text).cells, 3))
    assert [len(group) for group in groups] == [3, 1, 2, 3, 1, 2]
    assert all(len({(cell.seed, "batch_size" in cell.values) for cell in group}) == 1 for group in groups)


def loader(seed: int = 0) -> DeviceLoader:
    return DeviceLoader(load_data("digits", train_size=60).train, 20, seed=seed)


def test_batches_are_one_object_in_step_and_equal_out_of_step() -> None:
    room, whole = Classroom(2), [batch.inputs for batch in loader().epoch(0)]
    first, second, late = (room.batches(loader()).epoch(0) for _ in range(3))
    one, two = [], []
    for _ in range(3):
        one.append(next(first).inputs)
        two.append(next(second).inputs)
    assert all(a is b for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one, whole, strict=True))
    assert all(torch.equal(batch.inputs, b) for batch, b in zip(late, whole, strict=True))
    assert not torch.equal(next(room.batches(loader(seed=1)).epoch(0)).inputs, one[0])


def test_who_loses_step_goes_on_alone() -> None:
    room, whole = Classroom(2), [batch.inputs for batch in loader().epoch(0)]
    fast, slow = room.batches(loader()).epoch(0), room.batches(loader()).epoch(0)
    next(fast), next(slow), next(fast), next(fast)
    assert all(torch.equal(batch.inputs, b) for batch, b in zip(slow, whole[1:], strict=True))


def test_an_epoch_is_read_to_its_end_before_the_next_begins(monkeypatch) -> None:
    epoch, told = DeviceLoader.epoch, []

    def noted(self: DeviceLoader, number: int, start_step: int = 0):
        told.append(f"begins {number}")
        yield from epoch(self, number, start_step)
        told.append(f"ends {number}")

    monkeypatch.setattr(DeviceLoader, "epoch", noted)
    room = Classroom(2)
    first, second = room.batches(loader()), room.batches(loader())
    for number in range(2):
        for _ in zip(first.epoch(number), second.epoch(number), strict=True):
            pass
    assert told == ["begins 0", "ends 0", "begins 1", "ends 1"]


def test_a_batch_that_cannot_be_read_fails_each_run_by_itself(monkeypatch) -> None:
    def broken(self: DeviceLoader, number: int, start_step: int = 0):
        yield from ()
        raise AttarError("no such image")

    monkeypatch.setattr(DeviceLoader, "epoch", broken)
    room = Classroom(2)
    for students in (room.batches(loader()).epoch(0), room.batches(loader()).epoch(0)):
        with pytest.raises(AttarError, match="no such image"):
            next(students)


def test_one_student_shares_nothing() -> None:
    room, mine = Classroom(), loader()
    assert room.batches(mine) is mine
    assert not room.engines(mine.images).kept


def test_an_error_in_one_training_lets_the_others_save() -> None:
    saved = []

    def training(fails: bool):
        with stop_requests() as stop:
            for step in range(5):
                if fails and step == 2:
                    raise RuntimeError("broken")
                if stop.requested:
                    saved.append(step)
                    raise Stopped
                yield
        return "done"

    with pytest.raises(RuntimeError, match="broken"):
        take_turns([training(False), training(True), training(False)])
    assert saved == [2, 3]
    assert finish(training(False)) == "done"
    assert take_turns([training(False), training(False)]) == ["done", "done"]


def test_trainings_that_take_turns_leave_signals_and_the_generator_as_they_were() -> None:
    def training(number: int):
        with stop_requests(), torch.random.fork_rng(devices=[]):
            for _ in range(number):
                torch.manual_seed(number)
                yield

    handler, state = signal.getsignal(signal.SIGTERM), torch.get_rng_state()
    take_turns([training(3), training(1), training(2)])
    assert signal.getsignal(signal.SIGTERM) is handler
    assert torch.equal(torch.get_rng_state(), state)
