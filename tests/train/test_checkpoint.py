"""A checkpoint survives every moment of dying, a full disk and a flipped bit, and says what happened."""

import errno
import itertools
import os
import resource

import pytest
import torch

from attar import files
from attar.errors import AttarError
from attar.files import remove_leftovers, write_atomically, write_text
from attar.train import checkpoint as checkpoints
from attar.train.checkpoint import Checkpoint
from sweeps import first_of


def of_epoch(epoch, numbers=8):
    return Checkpoint({"weight": torch.full((numbers,), float(epoch))}, {}, epoch)


@pytest.fixture
def path(tmp_path):
    """A checkpoint of epoch 2 with that of epoch 1 beside it."""
    for epoch in (1, 2):
        checkpoints.save(tmp_path / "checkpoint.pt", of_epoch(epoch))
    return tmp_path / "checkpoint.pt"


def test_the_last_one_comes_back_and_the_one_before_stays(path):
    assert checkpoints.restore(path)[0].epoch == 2
    assert checkpoints.restore(path)[1] == ""
    path.unlink()
    assert checkpoints.restore(path)[0].method["weight"].tolist() == [1.0] * 8


def test_a_flipped_bit_anywhere_is_found(path):
    whole = path.read_bytes()
    for place in [*range(0, len(whole), 11), *range(len(whole) - 150, len(whole))]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert not checkpoints.is_whole(path), place
    path.write_bytes(whole)
    assert checkpoints.is_whole(path)


def test_a_cut_or_a_longer_file_is_found(path):
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert not checkpoints.is_whole(path)
    path.write_bytes(whole + b"\n")
    assert not checkpoints.is_whole(path)


def test_a_damaged_one_never_displaces_the_whole_one(path):
    path.write_bytes(b"half")
    state, note = checkpoints.restore(path)
    assert (state.epoch, note) == (1, "checkpoint.pt is damaged; going on from the checkpoint before it")
    checkpoints.save(path, of_epoch(3))
    path.write_bytes(b"half")
    assert checkpoints.restore(path)[0].epoch == 1
    assert {file.name for file in path.parent.iterdir()} == {"checkpoint.previous.pt", "checkpoint.damaged.pt"}


class Killed(BaseException):  # nothing catches it, as nothing catches SIGKILL
    """The process is gone."""


@pytest.fixture
def dying(monkeypatch):
    """Makes the n-th call to the system the last one, before or after it took effect; nothing is cleaned up."""

    def die(number, after):
        calls = itertools.count(1)

        def deadly(real):
            def call(*arguments, **values):
                if next(calls) < number:
                    return real(*arguments, **values)
                if after:
                    real(*arguments, **values)
                raise Killed

            return call

        for owner, name in ((os, "replace"), (os, "fsync"), (os, "open"), (torch, "save")):
            monkeypatch.setattr(owner, name, deadly(getattr(owner, name)))
        monkeypatch.setattr(files, "_remove", lambda file: None)

    return die


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(1, 9))
def test_dying_at_any_call_of_saving_loses_at_most_that_checkpoint(path, dying, monkeypatch, number, after):
    dying(number, after)
    with pytest.raises(Killed):
        checkpoints.save(path, of_epoch(3))
    monkeypatch.undo()
    state, note = checkpoints.restore(path)
    assert state.epoch in (2, 3)
    assert "damaged" not in note
    assert checkpoints.is_whole(path if path.exists() else path.with_name("checkpoint.previous.pt"))
    remove_leftovers(path.parent)
    assert not list(path.parent.glob(".*"))
    checkpoints.save(path, of_epoch(4))
    assert checkpoints.restore(path)[0].epoch == 4


def test_saving_makes_the_calls_that_the_test_above_dies_at(path, dying):
    dying(9, after=False)
    checkpoints.save(path, of_epoch(3))
    with pytest.raises(Killed):
        os.fsync(0)


@pytest.mark.parametrize("number", range(1, 7))
def test_a_text_file_is_never_half(tmp_path, dying, monkeypatch, number):
    write_text(tmp_path / "metrics.jsonl", "1\n")
    dying(number, after=False)
    with pytest.raises(Killed):
        write_text(tmp_path / "metrics.jsonl", "1\n2\n")
    monkeypatch.undo()
    assert (tmp_path / "metrics.jsonl").read_text() in ("1\n", "1\n2\n")


def test_died_between_the_renames(path):
    path.unlink()
    state, note = checkpoints.restore(path)
    assert (state.epoch, note) == (1, "the last process died while it replaced checkpoint.pt; nothing is lost")


@pytest.fixture
def small_disk():
    """A system that refuses files above 64 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_is_one_line_and_harms_nothing(path, small_disk):
    with pytest.raises(AttarError, match=r"cannot write .*checkpoint\.pt: .*; what was there before is kept") as caught:
        checkpoints.save(path, of_epoch(3, numbers=100_000))
    assert "\n" not in str(caught.value)
    assert sorted(file.name for file in path.parent.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]
    assert checkpoints.restore(path)[0].epoch == 2


@pytest.mark.parametrize("number", first_of([3, 1, 6]))
def test_a_run_on_a_full_disk_stops_and_goes_on_exactly(tiny, monkeypatch, number):
    whole, broken = tiny("kd"), tiny("kd")
    whole.fit()
    calls, flush = itertools.count(1), os.fsync

    def full(handle):
        if next(calls) >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AttarError, match="No space left on device"):
        broken.fit()
    monkeypatch.setattr(os, "fsync", flush)
    assert not list(broken.folder.glob(".*"))
    broken.fit()
    assert broken.metrics == whole.metrics
    assert all(torch.equal(tensor, whole.state[key]) for key, tensor in broken.state.items())


def test_a_long_epoch_is_saved_in_its_middle(tiny):
    whole, broken = tiny("kd"), tiny("kd", checkpoint_minutes=1e-9)
    whole.fit()
    broken.stopped_fit(0, 3, "crash")
    state, _ = checkpoints.restore(broken.folder / "checkpoint.pt")
    assert (state.epoch, state.step) == (0, 3)
    assert "going on at epoch 1, step 3" in broken.fit()
    assert broken.metrics == whole.metrics
    assert all(torch.equal(tensor, whole.state[key]) for key, tensor in broken.state.items())


def test_only_unfinished_files_are_removed(tmp_path):
    kept = [tmp_path / name for name in (".hidden", "a.tmp", ".a.tmp", ".a.b.tmp", ".a.12.txt")]
    for file in [*kept, tmp_path / ".checkpoint.pt.123.tmp"]:
        file.write_text("")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".metrics.jsonl.9.tmp").write_text("")
    remove_leftovers(tmp_path)
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == set(kept)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AttarError, match=r"cannot write .*: Not a directory"):
        write_atomically(tmp_path / "file" / "deep" / "x", lambda temporary: temporary.write_text(""))
