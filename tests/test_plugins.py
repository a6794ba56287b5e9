"""Files of one's own: imported once, recorded in the run's folder, and named where they are missing."""

import json
import sys

import pytest

from attar import plugins
from attar.errors import AttarError, unknown


@pytest.fixture(autouse=True)
def nothing_imported(monkeypatch):
    monkeypatch.setattr(plugins, "_imported", {})


def test_a_file_runs_once(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("print('runs')\n")
    plugins.import_files([tmp_path / "mine.py", str(tmp_path / "mine.py")])
    plugins.import_files([tmp_path / "mine.py"])
    assert capsys.readouterr().out == "runs\n"
    assert plugins.imported_files() == [tmp_path / "mine.py"]
    assert "attar_import_mine" in sys.modules


def test_a_file_that_raises_is_not_imported(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\nnone.x\n")
    with pytest.raises(AttarError, match=r"mine\.py: line 2: NameError: name 'none' is not defined"):
        plugins.import_files([tmp_path / "mine.py"])
    assert plugins.imported_files() == []


def test_the_record_names_what_is_missing(tmp_path, monkeypatch):
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("")
    run = tmp_path / "run"
    plugins.record_imports(run)
    assert not (run / "imports.json").exists()
    plugins.import_files([tmp_path / "one.py", tmp_path / "two.py"])
    plugins.record_imports(run)
    entries = json.loads((run / "imports.json").read_text())
    assert entries[0]["file"] == str(tmp_path / "one.py")
    assert entries[0]["sha256"] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    # With both files here, an unknown name is just that.
    with pytest.raises(AttarError, match=r"^unknown network 'x'; known: none$"), plugins.naming_imports(run):
        raise unknown("network", "x", [])
    monkeypatch.setattr(plugins, "_imported", {})
    plugins.import_files([tmp_path / "two.py"])
    message = r"^unknown network 'x'; known: none; this run imported one\.py; give --import one\.py$"
    for place in (run, run / "seed1" / "student.safetensors"):
        with pytest.raises(AttarError, match=message), plugins.naming_imports(place):
            raise unknown("network", "x", [])
    with pytest.raises(AttarError, match=r"^another$"), plugins.naming_imports(run):
        raise AttarError("another")


def test_a_changed_file_is_noted(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text("x = 1\n")
    plugins.import_files([tmp_path / "one.py"])
    plugins.record_imports(tmp_path / "run")
    assert plugins.changed_imports(tmp_path / "run") == []
    monkeypatch.setattr(plugins, "_imported", {})
    (tmp_path / "one.py").write_text("x = 2\n")
    plugins.import_files([tmp_path / "one.py"])
    assert plugins.changed_imports(tmp_path / "run") == ["one.py"]


@pytest.mark.parametrize("text", ["no JSON", "[1]", '[{"file": "one.py"}]', "{}"])
def test_a_damaged_record_is_no_hint_and_no_traceback(tmp_path, text):
    (tmp_path / "imports.json").write_text(text)
    with pytest.raises(AttarError, match=r"^unknown network"), plugins.naming_imports(tmp_path):
        raise unknown("network", "x", [])
