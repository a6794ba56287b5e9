"""Names that are no UTF-8 and terminals that know ASCII alone: every command prints, and what it writes can be read."""

import io
import json
import os
import sys

import pytest

from attar import cli
from attar.files import utf8, write_text
from attar.models.graphs.onnx import described
from attar.models.graphs.traced import facts

image = pytest.importorskip("PIL.Image")

# A folder called "café" by a system that wrote Latin-1.
NAME = os.fsdecode(b"caf\xe9")


@pytest.fixture
def ascii_attar(monkeypatch):
    """Runs a command with output streams that know ASCII alone: its status and what it printed, as bytes."""

    def run(*arguments):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        monkeypatch.setattr(sys, "argv", ["attar", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code
        out, err = (stream.flush() or stream.buffer.getvalue() for stream in streams)
        return status, out, err

    return run


COMMANDS = ("distill", "train", "bench", "evaluate", "export", "predict", "profile", "report", "compare", "methods")


@pytest.mark.parametrize("command", [*([name, "--help"] for name in COMMANDS), ["methods"], ["methods", "sokd"]])
def test_every_command_prints_on_an_ascii_terminal(ascii_attar, command):
    status, out, err = ascii_attar(*command)
    assert (status, err) == (0, b"")
    assert len(out) > 100


def test_a_mistake_is_one_line_on_an_ascii_terminal(ascii_attar):
    status, _, err = ascii_attar("evaluate", "nö\udce9")
    assert status == 2
    assert err == b"attar: n\\xf6\\udce9 does not exist; give a run's folder or a .safetensors file\n"


@pytest.fixture(scope="module")
def latin(tmp_path_factory):
    """A folder of images whose classes and files have names that are no UTF-8."""
    root = tmp_path_factory.mktemp("latin")
    try:
        for name in (NAME, "naïve"):
            (root / name).mkdir()
            for number in range(12):
                shade = 20 * number + (5 if name == NAME else 0)
                image.new("RGB", (8, 8), (shade,) * 3).save(root / name / f"{NAME}{number}.png")
    except OSError:
        pytest.skip("this file system knows UTF-8 alone")
    return root


@pytest.fixture(scope="module")
def run(latin, tmp_path_factory):
    from attar import train_model

    folder = tmp_path_factory.mktemp("run") / "run"
    data = {"name": str(latin), "image_size": 8}
    train_model(student="resnet8", data=data, epochs=1, batch_size=8, precision="float32", out=str(folder))
    return folder


def test_class_names_that_are_no_utf8_go_through_training_report_and_compare(run, attar):
    assert json.loads((run / "student.json").read_text())["classes"] == [NAME, "naïve"]
    assert attar("report", run)[0] == 0
    assert "caf\\udce9" in (run / "report.html").read_text(encoding="utf-8")


def test_the_metadata_of_an_onnx_file_keep_the_names_exactly(run):
    onnx = pytest.importorskip("onnx")
    card = json.loads((run / "student.json").read_text())
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    again = onnx.load_from_string(described(empty, facts(card, bake=False)))
    held = {entry.key: entry.value for entry in again.metadata_props}
    assert json.loads(held["classes"]) == [NAME, "naïve"]


def test_a_model_card_can_be_read(run, attar, tmp_path):
    assert attar("export", run, "safetensors", f"out={tmp_path / 'export'}")[0] == 0
    assert "8 x 8 pixels" in (tmp_path / "export" / "README.md").read_text(encoding="utf-8")


def test_predictions_are_printed_with_escapes_and_as_json(run, latin, ascii_attar):
    file = latin / NAME / f"{NAME}0.png"
    status, out, _ = ascii_attar("predict", run, file, "--top", "1")
    assert (status, out.count(b"\\udce9")) == (0, 3 if NAME in labels(ascii_attar, run, file) else 2)
    assert labels(ascii_attar, run, file)[0] in (NAME, "naïve")


def labels(ascii_attar, run, file):
    status, out, _ = ascii_attar("predict", run, file, "--top", "1", "--json")
    assert status == 0
    (found,) = json.loads(out)
    assert found["file"] == str(file)
    return [one["label"] for one in found["labels"]]


def test_text_is_written_as_utf8(tmp_path):
    write_text(tmp_path / "x.txt", f"naïve {NAME}\n")
    assert (tmp_path / "x.txt").read_bytes() == b"na\xc3\xafve caf\\udce9\n"
    assert utf8("naïve") == "naïve"
