"""Where the networks are on another device than the CPU: on a GPU, but that these machines need none."""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import backend_registration

from sweeps import first_of, sweep

JOBS = {
    "kd": {},
    "everything about learning": {
        "method": "dml",
        "optim": {"ema": 0.9, "accumulate": 2, "clip_norm": 1.0, "label_smoothing": 0.1, "name": "adamw", "lr": 0.001},
    },
    "mixed images": {"data": {"mixup": 0.4, "cutmix": 1.0, "augment": {"cutout": 2}}},
    "balanced classes": {"method": "crd", "data": {"class_weights": "balanced"}},
    "several edges": {"method": "kd+at+rkd"},
}


@pytest.fixture(scope="module")
def there():
    """Calls a function of `second_device/checks.py`, by name, in a process that has a second device."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip(f"torch {torch.__version__} knows no devices written in Python")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent / "second_device")
        import checks

        # A process of its own, because a device is torch's for good.
        with ProcessPoolExecutor(1, get_context("spawn"), checks.begin) as process:
            yield lambda name, *given, **keys: process.submit(getattr(checks, name), *given, **keys).result()


def test_the_device_is_strict_and_notes_what_waits(there) -> None:
    printed = there("refuses_the_cpus")
    assert ["on the CPU: (2, 3)" in line for line in printed] == [True] * 3 + [False] * 4


@pytest.mark.parametrize("method", sweep())
def test_a_method_learns_there_as_on_the_cpu_and_its_steps_wait_for_nothing(there, method: str) -> None:
    exact, _ = there("steps_of", method, "cpu", "float32")
    # Attention has a kernel of its own on the CPU, which rounds otherwise.
    assert there("steps_of", method, "apart", "float32") == (pytest.approx(exact, rel=1e-6 * (method == "scalekd")), [])
    rounded, waits = there("steps_of", method, "apart", "bfloat16")
    assert all(math.isclose(one, other, rel_tol=0.1) for one, other in zip(rounded, exact, strict=True))
    assert rounded != exact
    assert waits == []


def test_a_watch_there_sees_steps_without_gradients(there) -> None:
    assert there("watches_where_nothing_has_a_gradient")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_colours_change_there_as_on_the_cpu_and_nothing_waits(there, layout: torch.memory_format) -> None:
    assert there("changes_colours", layout) == (True, [])


@pytest.mark.parametrize("steps_at_once", [1, 2, 4, 9])
@pytest.mark.parametrize("start", [0, 3])
def test_batches_there_are_those_of_the_cpu(there, steps_at_once: int, start: int) -> None:
    assert there("loads_alike", steps_at_once, start)


@pytest.mark.parametrize(
    "kind", [one if one == "everything about learning" else pytest.param(one, marks=pytest.mark.slow) for one in JOBS]
)
def test_a_job_ends_there_as_on_the_cpu(there, tmp_path: Path, kind: str) -> None:
    expected = there("job", "cpu", tmp_path / "cpu", **JOBS[kind])
    assert there("job", "apart", tmp_path / "apart", **JOBS[kind]) == expected


@pytest.mark.parametrize("kind", ["kd", pytest.param("mixed images", marks=pytest.mark.slow)])
def test_a_job_needs_no_float64_there(there, tmp_path: Path, kind: str) -> None:
    record, student = there("job_without_float64", tmp_path, **{**JOBS[kind], "epochs": 1})
    assert '"train_top1"' in record
    assert student


@pytest.mark.slow
def test_files_that_are_streamed_end_there_as_on_the_cpu(there, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", exc_type=ImportError)
    pixels = torch.randint(256, (60, 20, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for number, one in enumerate(pixels):
        file = tmp_path / "files" / ("train", "test")[number % 2] / "abc"[number % 3] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(one.numpy()).save(file)
    options = {"image_size": 16, "in_memory": False, "workers": 1, "val_fraction": 0.0, "train_size": None}
    keys = {"data": {"name": "folder", "root": str(tmp_path / "files"), **options}, "batch_size": 10}
    keys |= {"teacher": {"train_size": None}}
    expected = there("job", "cpu", tmp_path / "cpu", **keys)
    assert there("job", "apart", tmp_path / "apart", **keys) == expected


@pytest.mark.parametrize(
    "keys",
    [
        JOBS["everything about learning"],
        pytest.param(
            {"data": {"mixup": 0.4, "cutmix": 1.0, "augment": {"resized_crop": True, "cutout": 2}}},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["everything about learning", "mixed parts of images"],
)
def test_more_steps_wait_no_longer(there, tmp_path: Path, keys: dict[str, Any]) -> None:
    assert there("waits_of_steps", tmp_path, **keys) == {}


@pytest.mark.parametrize(
    ("top", "passes"), first_of([(None, ["written"]), (None, ["written", "read"]), (3, ["written"])])
)
def test_a_cache_makes_no_step_wait(there, tmp_path: Path, top: int | None, passes: list[str]) -> None:
    for one in passes:
        assert there("waits_of_steps", tmp_path / one, tmp_path / "caches", top) == {}


@pytest.mark.parametrize(("most", "place"), [(10**9, "apart"), (0, "cpu")])
def test_a_cache_gives_back_what_it_was_given(there, tmp_path: Path, most: int, place: str) -> None:
    rows = torch.arange(18.0).view(3, 6)
    assert there("cached_logits", tmp_path / "all", most, None) == (place, rows.tolist())
    # The rest is one number for each image: the logarithm of the mean of what is left out.
    rest = rows[:, :4].logsumexp(1, keepdim=True).sub(math.log(4)).half().float().repeat(1, 4)
    assert there("cached_logits", tmp_path / "top", most, 2) == (place, torch.cat([rest, rows[:, 4:]], 1).tolist())


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "step"), [(1, 0), (1, 2)])
def test_a_job_resumes_there_exactly(there, tmp_path: Path, epoch: int, step: int) -> None:
    assert there("resumes_exactly", tmp_path, epoch, step, **JOBS["everything about learning"])
