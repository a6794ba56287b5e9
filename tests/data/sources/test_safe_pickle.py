import os
import pickle

import numpy as np
import pytest

from attar.data.sources.safe_pickle import load_pickle
from attar.errors import AttarError


class Runs:
    """A pickle that runs a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_and_plain_values_come_back(tmp_path, protocol):
    record = {"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [0, 1], "names": ["a", "é"], "raw": b"\xff"}
    file = tmp_path / "record"
    file.write_bytes(pickle.dumps(record, protocol=protocol))
    loaded = load_pickle(file)
    assert np.array_equal(loaded.pop("data"), record.pop("data"))
    assert loaded == record


def test_a_python_2_pickle_is_read(tmp_path):
    # {'labels': [1], 'data': array([[1, 2]], dtype=uint8)} as Python 2 and numpy 1 write it.
    python2 = (
        b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03K\x01aU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\n"
        b"q\x06K\x00\x85U\x01b\x87Rq\x07(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\t(K\x03U\x01|NNNJ\xff"
        b"\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x01\x02tbu."
    )
    file = tmp_path / "record"
    file.write_bytes(python2)
    loaded = load_pickle(file)
    assert loaded["labels"] == [1]
    assert loaded["data"].tolist() == [[1, 2]]


@pytest.mark.parametrize("call", [(os.system, "true"), (eval, "1"), (getattr, "", "join"), (np.load, "x")])
def test_anything_that_runs_is_refused(tmp_path, call):
    file = tmp_path / "record"
    file.write_bytes(pickle.dumps({"data": Runs(*call)}, protocol=2))
    with pytest.raises(AttarError, match="it asks for"):
        load_pickle(file)


def test_other_codecs_are_refused(tmp_path):
    import _codecs

    file = tmp_path / "record"
    file.write_bytes(pickle.dumps(Runs(_codecs.encode, "x", "rot13"), protocol=2))
    with pytest.raises(AttarError, match="codec 'rot13'"):
        load_pickle(file)


@pytest.mark.parametrize("contents", [b"", b"no pickle", pickle.dumps(list(range(1000)))[:-50]])
def test_a_damaged_file_is_named_in_one_line(tmp_path, contents):
    file = tmp_path / "record"
    file.write_bytes(contents)
    with pytest.raises(AttarError, match="record is damaged") as caught:
        load_pickle(file)
    assert "\n" not in str(caught.value)
