"""A teacher's cache changes nothing but the time: never stale, never half there, never in the way."""

import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from attar.batch import Batch
from attar.errors import AttarError
from attar.experiments import launch
from attar.models import create_model
from attar.recipe import read_recipe, to_yaml
from attar.teachers import cache as teacher_cache
from attar.teachers import selection
from attar.teachers.cache import TeacherCache, Writer, check_space
from attar.teachers.engines import Folded
from attar.teachers.logit_codec import Dense, TopK
from sweeps import first_of


def recipe_of(folder, cache, **values):
    """A tiny distillation in a folder."""
    keys = {"method": "kd", "student": "resnet8", "epochs": 2, "batch_size": 16, "alone": "skip", **values}
    data = {"name": "digits", "train_size": 40, "val_fraction": 0, **keys.pop("data", {})}
    teacher = {"name": "resnet14", "weights": str(weights_of(folder)), "cache": cache and str(cache)}
    teacher["precision"] = "float32"  # which engine is faster hangs on the moment
    teacher |= keys.pop("teacher", {})
    return read_recipe(**keys, teacher=teacher, data=data, precision="float32", out=str(folder))


def distil(folder, cache, **values):
    """Run it; returns the student's metrics and what was printed."""
    output = io.StringIO()
    launch.start(recipe_of(folder, cache, **values), Console(file=output))
    return (folder / "metrics.jsonl").read_text(), output.getvalue()


def weights_of(folder):
    file = folder.parent / "teacher.pth"
    if not file.exists():
        torch.manual_seed(5)
        torch.save(create_model("resnet14", num_classes=10, in_channels=1, image_size=8).state_dict(), file)
    return file


def files(cache):
    return sorted(path for path in cache.rglob("*.bin"))


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory):
    """A folder with a teacher, a run and the cache that it has filled, and the run's metrics."""
    root = tmp_path_factory.mktemp("filled")
    metrics, output = distil(root / "first", root / "cache")
    assert "1.6 kB to be written" in output  # 40 images x 10 classes x 2 bytes x 2 epochs, and two digests
    return root, metrics


@pytest.fixture
def filled(filled_once, tmp_path):
    """A copy of it for one test."""
    root, metrics = filled_once
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return tmp_path, metrics


def computed(monkeypatch):
    """How many images the teacher's engine sees from now on."""
    seen = []
    plain = Folded.__call__
    monkeypatch.setattr(Folded, "__call__", lambda self, x, taps=(): seen.append(len(x)) or plain(self, x, taps))
    return seen


def test_a_full_cache_spares_the_teacher_and_changes_no_bit(filled, monkeypatch):
    root, metrics = filled
    monkeypatch.setattr(selection, "AGAIN", 0)  # on a busy machine engines are timed again
    before = [file.stat().st_mtime_ns for file in files(root / "cache")]
    seen = computed(monkeypatch)
    again, output = distil(root / "second", root / "cache")
    cached = sum(seen)
    assert again == metrics
    assert "0 B to be written" in output
    assert [file.stat().st_mtime_ns for file in files(root / "cache")] == before
    seen.clear()
    distil(root / "third", None)
    # Two epochs of 40 images are spared, but for the 16 that each epoch compares, and the 16 that ask what KD reads.
    assert sum(seen) - cached == 2 * 40 - 3 * 16


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"seed": 1}, marks=pytest.mark.slow),
        pytest.param({"data": {"augment": {"flip": True}}}, marks=pytest.mark.slow),
        pytest.param({"data": {"train_size": 41}}, marks=pytest.mark.slow),
        pytest.param({"data": {"view_seed": 3}}, marks=pytest.mark.slow),
        {"teacher": {"cache_top": 3}},
    ],
    ids=str,
)
def test_another_run_looks_elsewhere(filled, change):
    root, _ = filled
    distil(root / "other", root / "cache", **change)
    assert len(files(root / "cache")) == 4


def test_another_teacher_looks_elsewhere(filled):
    root, _ = filled
    torch.save(create_model("resnet14", num_classes=10, in_channels=1, image_size=8).state_dict(), root / "teacher.pth")
    distil(root / "other", root / "cache")
    assert len(files(root / "cache")) == 4


@pytest.mark.slow
def test_seeds_and_methods_with_one_view_seed_share(tmp_path):
    distil(tmp_path / "a", tmp_path / "cache", data={"view_seed": 7})
    distil(tmp_path / "b", tmp_path / "cache", data={"view_seed": 7, "train_size": 40}, method="dkd")
    assert len(files(tmp_path / "cache")) == 2


def test_seeds_with_one_split_and_one_view_seed_share(tmp_path):
    data = {"view_seed": 0, "split_seed": 0, "val_fraction": 0.2}
    recipe = recipe_of(tmp_path / "run", tmp_path / "cache", seeds=2, jobs=1, epochs=1, data=data)
    launch.start(recipe, Console(file=io.StringIO()))
    assert len(files(tmp_path / "cache")) == 1


def test_a_run_with_a_cache_differs_from_a_live_one_by_float16_alone(filled, monkeypatch):
    folder, metrics = filled
    live, _ = distil(folder / "live", None)
    assert live != metrics
    monkeypatch.setattr(Dense, "row_bytes", property(lambda codec: 4 * codec.classes))
    monkeypatch.setattr(Dense, "encode", lambda codec, logits: logits.float().contiguous().view(torch.uint8))
    monkeypatch.setattr(Dense, "decode", lambda codec, rows: rows.clone().view(torch.float32))
    assert distil(folder / "wide", folder / "float32")[0] == live
    own, other = (load_file(folder / name / "student.safetensors") for name in ("live", "wide"))
    assert all(torch.equal(tensor, other[key]) for key, tensor in own.items())


def test_a_damaged_file_is_written_again(filled):
    root, metrics = filled
    first = files(root / "cache")[0]
    whole = bytearray(first.read_bytes())
    whole[5] ^= 1
    first.write_bytes(whole)
    again, output = distil(root / "second", root / "cache")
    assert again == metrics
    assert "is damaged; it is written again" in " ".join(output.split())
    whole[5] ^= 1
    assert first.read_bytes() == bytes(whole)


def test_a_truncated_file_is_not_read(filled):
    root, metrics = filled
    first = files(root / "cache")[0]
    first.write_bytes(first.read_bytes()[:-1])
    assert distil(root / "second", root / "cache")[0] == metrics


@pytest.mark.slow
def test_rows_of_another_teacher_under_the_same_key_are_noticed(filled):
    root, metrics = filled
    # What no key foresees: code that changed under the cache. The digest is right, the content is not.
    for file in files(root / "cache"):
        rows = np.fromfile(file, np.uint8)[: 40 * 20].reshape(40, 20)
        writer = Writer(file, 40, 20)
        writer.write(torch.arange(40), torch.from_numpy(rows).roll(1, 0))
        writer.commit()
    again, output = distil(root / "second", root / "cache")
    assert again == metrics
    assert "is of another teacher" in " ".join(output.split())
    again, output = distil(root / "third", root / "cache")
    assert again == metrics
    assert "is of another teacher" not in " ".join(output.split())


def test_an_epoch_that_broke_off_leaves_no_file(tmp_path):
    cache = TeacherCache(tmp_path, {}, images=4, codec=Dense(2))
    writer = cache.writer(0)
    writer.write(torch.tensor([0, 2, 3]), torch.zeros(3, 4, dtype=torch.uint8))
    writer.commit()  # image 1 is missing
    assert cache.read(0) is None
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.tmp"))


# The note on the key takes three calls (it is made, opened to flush it, then its folder), an epoch's file the next two.
@pytest.mark.parametrize("calls", first_of([4, 0, 5]))
def test_a_full_disk_only_costs_the_cache(filled, monkeypatch, calls):
    root, metrics = filled
    left, place = [calls], str(root / "small")

    def limited(call):
        def refusing(target, *arguments, **values):
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
            left[0] -= path.startswith(place)
            if path.startswith(place) and left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(target, *arguments, **values)

        return refusing

    for name in ("open", "posix_fallocate"):
        monkeypatch.setattr(os, name, limited(getattr(os, name)))
    again, output = distil(root / "with", root / "small")
    assert left[0] < 0
    assert again == metrics
    assert "No space left on device" in " ".join(output.split())
    assert len(files(root / "small")) == calls // 5
    assert not list((root / "small").rglob("*.tmp"))


@pytest.mark.parametrize("allocates", [True, False])
def test_a_file_that_may_not_grow_is_an_error_before_anything_is_mapped(tmp_path, monkeypatch, allocates):
    if not allocates:
        monkeypatch.delattr(os, "posix_fallocate")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            Writer(tmp_path / "epoch0000.bin", 10_000, 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_cache_is_written_where_the_system_cannot_allocate(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(teacher_cache, "BLOCK", 7)
    cache, rows = TeacherCache(tmp_path, {}, images=4, codec=Dense(2)), torch.arange(16, dtype=torch.uint8).view(4, 4)
    writer = cache.writer(0)
    writer.write(torch.arange(4), rows)
    writer.commit()
    assert torch.equal(cache.read(0), rows)


# A process that dies by SIGKILL when the cache makes its n-th step: a batch written, or a file about to get its name.
VICTIM = """
import os, signal, sys
from pathlib import Path
from attar.experiments import launch
from attar.teachers import cache as teacher_cache
from attar.recipe import read_recipe
steps, last = 0, int(sys.argv[1])
def deadly(call):
    def step(*arguments):
        global steps
        steps += call is not replace or str(arguments[1]).endswith(".bin")
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)
    return step
replace = os.replace
os.replace = deadly(replace)
teacher_cache.Writer.write = deadly(teacher_cache.Writer.write)
launch.start(read_recipe(Path(sys.argv[2])))
"""


@pytest.mark.slow
def test_a_process_killed_while_it_writes_the_cache(filled):
    root, metrics = filled
    step = 6  # the second epoch's second batch, after three batches and a rename
    recipe = recipe_of(root / "killed", root / "broken", checkpoint_minutes=1e-9)
    (root / "recipe.yaml").write_text(to_yaml(recipe))
    process = [sys.executable, "-c", VICTIM, str(step), str(root / "recipe.yaml")]
    assert subprocess.run(process, capture_output=True).returncode == -9
    assert len(list((root / "broken").rglob(".*.tmp"))) == 1
    launch.resume(root / "killed", Console(quiet=True))
    students = [(root / name / "student.safetensors").read_bytes() for name in ("killed", "first")]
    assert students[0] == students[1]
    assert (root / "killed" / "metrics.jsonl").read_text() == metrics
    whole = {file.name: file.read_bytes() for file in files(root / "cache")}
    assert {file.name: file.read_bytes() for file in files(root / "broken")}.items() <= whole.items()
    # The next run fills what is missing, and clears away what the killed one left.
    assert distil(root / "next", root / "broken")[0] == metrics
    assert {file.name: file.read_bytes() for file in files(root / "broken")} == whole
    assert not list((root / "broken").rglob("*.tmp"))


def test_only_what_nobody_writes_any_more_is_cleared_away(tmp_path):
    dead = tmp_path / ".epoch0000.bin.1.tmp"
    dead.write_bytes(b"half")
    first = Writer(tmp_path / "epoch0000.bin", 1, 2)
    assert not dead.exists()
    second = Writer(tmp_path / "epoch0001.bin", 1, 2)
    for writer in (first, second):
        writer.write(torch.tensor([0]), torch.ones(1, 2, dtype=torch.uint8))
        writer.commit()
        writer.discard()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["epoch0000.bin", "epoch0001.bin"]


def test_without_locks_age_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_cache, "claim", lambda handle: None)
    old, young = tmp_path / ".a.bin.1.tmp", tmp_path / ".b.bin.2.tmp"
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    Writer(tmp_path / "epoch0000.bin", 1, 2).discard()
    assert list(tmp_path.iterdir()) == [young]


def test_a_file_that_another_host_writes_under_the_same_number_is_left_alone(tmp_path):
    first = Writer(tmp_path / "epoch0000.bin", 1, 2)
    with pytest.raises(OSError, match="busy"):
        Writer(tmp_path / "epoch0000.bin", 1, 2)
    first.write(torch.tensor([0]), torch.ones(1, 2, dtype=torch.uint8))
    first.commit()
    assert (tmp_path / "epoch0000.bin").read_bytes()[:2] == b"\x01\x01"


def test_a_cache_that_cannot_fit_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(AttarError, match=r"2.0 kB to be written, 1.0 kB free; set teacher.cache_top"):
        check_space(tmp_path / "not" / "there", 2000)


@pytest.mark.parametrize("method", ["at", pytest.param("simkd", marks=pytest.mark.slow)])
def test_a_method_that_reads_features_says_why_it_has_no_cache(tmp_path, method):
    with_cache, output = distil(tmp_path / "a", tmp_path / "cache", method=method)
    assert "no teacher cache" in output
    assert "reads" in output
    assert not (tmp_path / "cache").exists()
    assert distil(tmp_path / "b", None, method=method)[0] == with_cache


def test_repeated_images_have_no_cache(tmp_path):
    _, output = distil(tmp_path / "a", tmp_path / "cache", epochs=1, data={"repeats": 3})
    assert "no teacher cache: it holds every image once an epoch, and data.repeats shows some several times" in output
    assert not (tmp_path / "cache").exists()


def test_a_teacher_that_is_not_run_whole_has_no_cache_and_no_engine(tmp_path):
    with_cache, output = distil(tmp_path / "a", tmp_path / "cache", method="iakd")
    assert "no teacher cache: iakd computes its teacher in a way of its own" in output
    assert "teacher 1 is computed by the method in a way of its own" in output
    assert not (tmp_path / "cache").exists()
    assert distil(tmp_path / "b", None, method="iakd")[0] == with_cache


def test_the_facts_lie_beside_the_rows(filled):
    root, _ = filled
    facts = json.loads(next((root / "cache").rglob("key.json")).read_text())
    assert facts["engine"] == "folded float32"
    assert facts["images"] == 40


def test_dense_keeps_half_precision():
    logits = torch.tensor([[1.0, -2.5, 1e9]])
    back = Dense(3).decode(Dense(3).encode(logits))
    assert back.tolist() == [[1.0, -2.5, 65504.0]]


def test_top_k_keeps_the_probabilities_of_the_largest():
    torch.manual_seed(0)
    logits, codec = 3 * torch.randn(5, 20), TopK(20, 6)
    rows = codec.encode(logits)
    assert rows.shape == (5, codec.row_bytes)
    back = codec.decode(rows)
    kept = logits.topk(6).indices
    torch.testing.assert_close(back.softmax(1).gather(1, kept), logits.softmax(1).gather(1, kept), rtol=5e-3, atol=1e-4)
    assert back.softmax(1).sort().values[:, :14].std(dim=1).max() < 1e-6
    assert back.argmax(1).equal(logits.argmax(1))


@pytest.mark.parametrize("top", [0, 20, 21])
def test_top_k_must_leave_some_out(top):
    with pytest.raises(AttarError, match="must be 1 to 19"):
        TopK(20, top)


def test_batches_carry_the_index_the_rows_go_by(tmp_path):
    cache = TeacherCache(tmp_path, {}, images=3, codec=Dense(2))
    logits = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    writer = cache.writer(0)
    batch = Batch(torch.zeros(3, 1, 2, 2), torch.zeros(3), index=torch.tensor([2, 0, 1]))
    writer.write(batch.index, cache.codec.encode(logits))
    writer.commit()
    rows = cache.read(0)
    assert cache.decode(rows, torch.tensor([0, 2])).tolist() == [[3.0, 4.0], [1.0, 2.0]]
