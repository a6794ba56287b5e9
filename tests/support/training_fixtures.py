"""A tiny training on the embedded digits."""

import copy
import io
import signal
import time

import pytest
import torch
from rich.console import Console

from attar.accel.runtime import Runtime
from attar.data import DeviceLoader, load_data
from attar.errors import AttarError, Stopped
from attar.methods import create_method, method_info
from attar.models import create_model
from attar.recipe import read_recipe
from attar.safety.locks import held
from attar.train.loop import Places, fit
from attar.train.progress import Progress

RUNTIME = Runtime(torch.device("cpu"), "float32", "")


class CrashError(Exception):
    """What happens to a process at the worst moment."""


class Loader(DeviceLoader):
    """The loader, with an accident at one (epoch, step)."""

    accident = None

    def epoch(self, epoch, start_step=0):
        for batch in super().epoch(epoch, start_step):
            if self.accident and self.accident[0] == (epoch, batch.address.step):
                if self.accident[1] == "crash":
                    raise CrashError
                signal.raise_signal(self.accident[1])
            yield batch


class Tiny:
    """One training: everything but its folder is always built the same."""

    def __init__(self, folder, method="kd", options=None, **optim):
        self.folder, self.name, self.options = folder, method, options or {}
        keys = {key: optim.pop(key) for key in ("select", "epochs", "checkpoint_minutes") if key in optim}
        self.runtime = optim.pop("runtime", RUNTIME)
        self.recipe = read_recipe(batch_size=16, optim={"lr": 0.05, **optim}, **{"epochs": 2, **keys})
        self.splits = load_data("digits", val_fraction=0.05, train_size=60)
        self.method = self.new_method()
        self.loader = self.new_loader()

    def new_loader(self):
        splits = self.splits
        views = {name: splits.augment.changed(changes) for name, changes in self.method.views().items()}
        return Loader(splits.train, 16, augment=splits.augment, seed=0, epochs=self.recipe.epochs, views=views)

    def net(self, name):
        return create_model(name, num_classes=10, in_channels=1, image_size=8)

    def new_method(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            takes_teacher = method_info(self.name.partition("+")[0]).takes_teacher
            method = create_method(
                self.name,
                teacher=self.net("resnet14") if takes_teacher else None,
                student=self.net("resnet8"),
                image_shape=(1, 8, 8),
                **copy.deepcopy(self.options),
            )
            method.setup(self.splits.train.labels)
            return method

    def fit(self, accident=None):
        """Train in a new process, so to speak: everything anew, but for the folder."""
        self.method, printed = self.new_method(), io.StringIO()
        self.loader = self.new_loader()
        self.loader.accident = accident
        with Progress(Console(file=printed), self.name, self.recipe.epochs, len(self.loader), 16) as progress:
            val, places = self.splits.val, Places(self.folder)
            fit(self.method, self.loader, val, self.recipe, self.runtime, places, progress)
        return printed.getvalue()

    def stopped_fit(self, epoch, step, how=signal.SIGTERM):
        """Train until an accident before this step; a signal lets the step finish."""
        with pytest.raises(CrashError if how == "crash" else Stopped):
            self.fit(((epoch, step), how))

    @property
    def state(self):
        return self.method.state_dict()

    @property
    def metrics(self):
        return (self.folder / "metrics.jsonl").read_text()


@pytest.fixture
def wait_for():
    """Waits until something is so, in another process; not for ever."""

    def wait(condition):
        end = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.05)

    return wait


@pytest.fixture
def is_free():
    """Whether nobody holds a lock file."""

    def free(file):
        try:
            with held(file):
                return True
        except AttarError:
            return False

    return free


@pytest.fixture(scope="session")
def training():
    """The class of the trainings."""
    return Tiny


@pytest.fixture
def tiny(tmp_path):
    """Makes trainings in numbered folders."""
    made = []

    def make(*arguments, **values):
        made.append(Tiny(tmp_path / str(len(made)), *arguments, **values))
        made[-1].folder.mkdir()
        return made[-1]

    return make


@pytest.fixture
def resuming_changes(tmp_path):
    """What differs where a training of some class was stopped and resumed: parts of its state, "metrics"."""

    def changes(kind, epoch, step, how):
        whole, broken = kind(tmp_path / "whole"), kind(tmp_path / "broken")
        for one in (whole, broken):
            one.folder.mkdir()
        whole.fit()
        broken.stopped_fit(epoch, step, how)
        torch.rand(7)  # another process draws other numbers
        broken.fit()
        other = [key for key, one in broken.state.items() if not torch.equal(one, whole.state[key])]
        return other + ["metrics"] * (broken.metrics != whole.metrics)

    return changes
