"""What all tests share: one thread each, and the real data where they are."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import random
import sys
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule

# The tensors are tiny: a second thread costs more than it brings, and pytest-xdist has its own processes. Set before
# torch is imported, and for the commands that tests start.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    """Of pytest-xdist's processes the first runs no tests and need not wait for torch."""
    if not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("training_fixtures")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list, list]:
    """Tests have no doctests: nobody looks through each of them for some."""
    return [one for one in (yield) if not isinstance(one, DoctestModule)]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Beside a CPU build of torch, torchvision must be imported in Attar's way before anything else imports it."""
    if session.config.getoption("numprocesses", None):
        return

    from attar.errors import AttarError
    from attar.models.libraries.imports import import_torchvision

    with contextlib.suppress(AttarError):  # it is not installed
        import_torchvision()


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay to the end: the garbage collector need not look at them again and again."""
    gc.freeze()


def seed(name: str) -> None:
    """Each test draws the numbers that belong to its name, whatever ran before it in its process."""
    import numpy as np
    import torch

    value = zlib.crc32(name.encode())
    random.seed(value)
    np.random.seed(value)
    # torch.manual_seed takes a millisecond, for devices that are not here.
    torch.default_generator.manual_seed(value)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef) -> None:
    """What several tests share is drawn from its own name: whichever test asks first gets the same."""
    if fixturedef.scope != "function":
        seed(fixturedef.argname)


@pytest.fixture(scope="session", autouse=True)
def _few_timed_passes() -> None:
    """No test looks at milliseconds."""
    cost = importlib.import_module("attar.profiling.cost")  # the package has a function of that name
    cost.REPEATS, cost.WARMUP = 3, 1


@pytest.fixture(scope="session", autouse=True)
def _no_power_cuts() -> Iterator[None]:
    """Files need not reach the disk before a test goes on; the calls are made all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _engines_by_rule() -> Iterator[None]:
    """A teacher's engine follows from what agrees, not from a clock: the same run has the same bits every time."""
    from attar.teachers import selection
    from attar.teachers.selection import Plain

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "seconds", lambda engine, *_: 2.0 if isinstance(engine, Plain) else 1.0)
        yield


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    """Runs after shared fixtures and before the test's own."""
    seed(request.node.nodeid)


@pytest.fixture(scope="session")
def attar_data() -> Path:
    """The folder of real data and weights (ATTAR_DATA, else ../shared/data), or a skip that says why."""
    folder = Path(os.environ.get("ATTAR_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "weights").is_dir():
        pytest.skip("no real data: set ATTAR_DATA to the folder that holds them")
    return folder


@pytest.fixture
def attar(monkeypatch, capsys, tmp_path):
    """Runs a command in an empty folder: its status, and what it wrote to stdout and stderr."""
    from attar import cli

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["attar", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def forget():
    """Puts the registries back to what they were when the test began, as in another process."""
    from attar import plugins
    from attar.choices import OPTIMISERS, SCHEDULES
    from attar.data.registry import DATASETS
    from attar.data.transforms.registry import AUGMENTATIONS
    from attar.deploy.formats import FORMATS
    from attar.methods.registry import METHODS
    from attar.metrics.registry import METRICS
    from attar.models.registry import MODELS
    from attar.tasks.predictions import PREDICTORS
    from attar.tasks.registry import TASKS
    from attar.track.tracker import TRACKERS

    registries = (
        AUGMENTATIONS, DATASETS, FORMATS, METHODS, METRICS, MODELS, OPTIMISERS, SCHEDULES, TASKS, TRACKERS
    )  # fmt: skip
    tables = [*(registry._records for registry in registries), PREDICTORS]
    before = [dict(table) for table in tables]

    def forgotten():
        for table, records in zip(tables, before, strict=True):
            table.clear()
            table.update(records)
        plugins._imported.clear()

    forgotten()
    yield forgotten
    forgotten()
