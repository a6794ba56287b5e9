"""Files that are either whole or not there."""

import json

import pytest

from attar.files import write_atomically, write_json


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"x": 1})

    def write(path):
        path.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(tmp_path / "a" / "b.json", write)
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["b.json"]
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"x": 1}


def test_a_file_has_the_usual_permissions_whoever_wrote_it(tmp_path):
    def private(file):
        file.write_text("weights")
        file.chmod(0o600)

    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "net.safetensors", private)
    assert (tmp_path / "net.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode
