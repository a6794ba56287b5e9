import time
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch

from attar.accel import runtime
from attar.accel.runtime import bfloat16_slowness
from attar.errors import AttarError


def test_the_environment_has_versions_and_none_of_a_package_that_is_not_installed():
    found = runtime.environment()
    assert found["attar"] == version("attar")
    assert found["threads"] == torch.get_num_threads()
    assert runtime._version("attar-from-its-source") is None


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


def test_no_step_is_tried_where_the_processor_only_emulates_bfloat16(monkeypatch):
    def tried(*_):
        raise AssertionError("a step was tried")

    monkeypatch.setattr(runtime, "step_seconds", tried)
    monkeypatch.setattr(runtime, "bfloat16_slowness", lambda: 71.4)
    found = runtime.choose(None, None, torch.device("cpu"), "auto")
    assert found.precision == "float32"
    assert found.reason == "float32 on cpu: the processor has no bfloat16 (a convolution takes 71 times as long)"
    monkeypatch.setattr(runtime, "bfloat16_slowness", lambda: 1.3)
    with pytest.raises(AssertionError, match="a step was tried"):
        runtime.choose(SimpleNamespace(batch_losses=None), None, torch.device("cpu"), "auto")
    assert 0 < bfloat16_slowness() < 10_000


def test_a_busy_moment_does_not_choose_the_precision(monkeypatch):
    took = iter([0.2, 0.9, 0.2, 0.1, 0.7, 0.1])  # float32 and bfloat16 in turn; the first bfloat16 is disturbed
    monkeypatch.setattr(runtime, "bfloat16_slowness", lambda: 1.0)
    monkeypatch.setattr(runtime, "step_seconds", lambda *_: next(took))
    found = runtime.choose(SimpleNamespace(batch_losses=None), None, torch.device("cpu"), "auto")
    assert found.precision == "bfloat16"
    assert found.reason.endswith("2.00 times as fast (float32 200.0 ms, bfloat16 100.0 ms a step)")


def test_what_else_the_machine_does_does_not_hide_that_bfloat16_is_emulated(monkeypatch):
    threads = set()

    def convolution(images, weight):
        threads.add(torch.get_num_threads())
        if images.dtype == torch.float32:
            time.sleep(0.005)  # another process has the processor
        start, work = time.thread_time(), 0.002 if images.dtype == torch.bfloat16 else 0.0002
        while time.thread_time() < start + work:
            pass

    monkeypatch.setattr(torch.nn.functional, "conv2d", convolution)
    before = torch.get_num_threads()
    assert bfloat16_slowness() > 5
    assert (threads, torch.get_num_threads()) == ({1}, before)
