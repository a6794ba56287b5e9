from importlib.metadata import PackageNotFoundError

import torch

from attar.accel import runtime


def test_the_environment_of_a_package_that_is_not_installed(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(runtime, "version", missing)
    found = runtime.environment()
    assert found["attar"] is None
    assert found["threads"] == torch.get_num_threads()
