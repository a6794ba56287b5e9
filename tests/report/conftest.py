"""Folders of finished runs as a job leaves them, without any training."""

import pytest

from made_runs import MadeRun


@pytest.fixture
def made_run(tmp_path):
    """Makes run folders by name."""

    def make(name="run", **keys):
        return MadeRun(tmp_path / name, **keys)

    return make
