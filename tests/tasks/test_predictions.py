"""Array files that are predicted on: read whole, or refused in one line."""

import numpy as np
import pytest

from attar.errors import AttarError
from attar.tasks.predictions import read_array


def test_both_kinds_of_file_are_read(tmp_path):
    rows = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", inputs=rows)
    for name in ("rows.npy", "rows.npz"):
        assert np.array_equal(read_array(tmp_path / name), rows)


def test_damaged_files_are_one_line(tmp_path):
    np.savez_compressed(tmp_path / "rows.npz", inputs=np.random.default_rng(0).random((50, 20)))
    whole = (tmp_path / "rows.npz").read_bytes()
    middle = len(whole) // 2
    (tmp_path / "flipped.npz").write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    (tmp_path / "cut.npz").write_bytes(whole[:middle])
    np.savez(tmp_path / "other.npz", images=np.zeros(2))
    np.save(tmp_path / "nan.npy", np.array([1.0, np.nan]))
    for name, message in (
        ("flipped.npz", "cannot read .*flipped.npz"),
        ("cut.npz", "cannot read .*cut.npz"),
        ("none.npz", "No such file"),
        ("other.npz", "no array 'inputs'"),
        ("nan.npy", "holds NaN"),
    ):
        with pytest.raises(AttarError, match=message):
            read_array(tmp_path / name)
