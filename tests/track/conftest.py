"""A job of three small trainings, and a tracker that remembers what was logged as a server would."""

import contextlib
import io
import json
import signal

import pytest
from rich.console import Console

from attar.errors import Stopped
from attar.experiments import launch
from attar.recipe import read_recipe
from attar.track import Subject, register_tracker
from attar.track.tracker import flat
from attar.train.progress import Progress

SMALL = ["student=resnet8", "epochs=2", "batch_size=16", "data.train_size=60", "precision=float32"]
ONE = [*SMALL, "teacher=", "method=supervised", "alone=skip"]
THREE = [*SMALL, "teacher=resnet8", "teacher.precision=float32", "method=kd"]


@register_tracker("remembered", title="A server in memory")
class Remembered:
    """Keeps everything by the training's id; `trouble` is where it raises."""

    place = ""
    server = None
    trouble = ""

    def start(self, subject, logged):
        self.fail("start")
        self.kept = self.server.setdefault(subject.id, {"subject": subject, "epochs": [], "ends": []})
        return len(self.kept["epochs"])

    def epoch(self, epoch):
        self.fail("epoch")
        self.kept["epochs"].append(epoch)

    def finish(self, results):
        self.fail("finish")
        self.kept["ends"].append(results)

    def fail(self, where):
        if where in self.trouble:
            raise ConnectionError(f"no answer\nto {where}")


@pytest.fixture
def server(monkeypatch):
    """What the remembering tracker was logged, by the name of the training."""

    class Server(dict):
        def trouble(self, where):
            monkeypatch.setattr(Remembered, "trouble", where)

        def __getitem__(self, name):
            found = [kept for kept in self.values() if kept["subject"].name == name]
            assert len(found) == 1, f"{len(found)} runs of {name}"
            return found[0]

    kept = Server()
    monkeypatch.setattr(Remembered, "server", kept)
    return kept


def said_by(act, *arguments):
    """What a job prints."""
    console = Console(file=io.StringIO(), width=200)
    act(*arguments, console)
    return console.file.getvalue()


@pytest.fixture
def distill(tmp_path):
    """Runs a job in a folder of its name, and gives what it printed."""

    def run(name, *more, taught=False):
        recipe = THREE if taught else ONE
        return said_by(launch.start, read_recipe(overrides=[*recipe, *more, f"out={tmp_path / name}"]))

    return run


@pytest.fixture
def resume(tmp_path):
    """Goes on with a job."""
    return lambda name: said_by(launch.resume, tmp_path / name)


@pytest.fixture(scope="session")
def small():
    """The recipe of one small training."""
    return ONE


@pytest.fixture
def stopping(monkeypatch):
    """Within it, the process is asked to stop in the middle of the second epoch."""

    @contextlib.contextmanager
    def stopped():
        step = Progress.step

        def alarming(self, epoch, number, running):
            step(self, epoch, number, running)
            if (epoch, number) == (1, 1):
                signal.raise_signal(signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(Progress, "step", alarming)
            with pytest.raises(Stopped):
                yield

    return stopped


@pytest.fixture
def records():
    """The lines of metrics.jsonl as a tracker should hear them."""

    def read(folder):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [(line.pop("epoch"), flat(line, by="/")) for line in lines]

    return read


@pytest.fixture
def subject(tmp_path):
    """A training that nobody runs."""
    recipe = {"epochs": 2, "student": {"name": "resnet8"}, "optim": {"lr": 0.2}, "track": ["x"], "out": None}
    return Subject("0123456789abcdef" * 2, "kd-digits", "student", tmp_path, tmp_path, recipe)
