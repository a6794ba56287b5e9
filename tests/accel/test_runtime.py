from importlib.metadata import PackageNotFoundError

import pytest
import torch

from attar.accel import runtime
from attar.errors import AttarError


def test_the_environment_of_a_package_that_is_not_installed(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(runtime, "version", missing)
    found = runtime.environment()
    assert found["attar"] is None
    assert found["threads"] == torch.get_num_threads()


@pytest.mark.parametrize(
    ("there", "processes", "expected"),
    [
        ((), 1, "cpu"),
        (("mps",), 1, "mps"),
        (("xpu", "mps"), 1, "xpu"),
        (("cuda", "xpu"), 1, "cuda"),
        (("mps",), 2, "cpu"),
    ],
)
def test_the_device_that_torch_has(monkeypatch, there, processes, expected):
    for kind in ("cuda", "xpu", "mps"):
        monkeypatch.setattr(getattr(torch, kind), "is_available", lambda kind=kind: kind in there)
    monkeypatch.setattr(runtime, "processes", lambda: processes)
    assert runtime.find_device("auto").type == expected


@pytest.mark.parametrize("name", ["xpu", "mps"])
def test_a_device_that_is_not_there_is_one_line(name):
    with pytest.raises(AttarError, match=f"device '{name}' is not usable here; give device=cpu"):
        runtime.find_device(name)
