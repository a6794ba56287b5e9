"""Export formats are registered: their names, their files, and a format of one's own."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from attar.deploy import register_format
from attar.deploy.classifier import Classifier
from attar.deploy.export import check_formats
from attar.deploy.formats import FORMATS
from attar.deploy.predict import open_classifier
from attar.errors import AttarError


@pytest.fixture(autouse=True)
def table_as_before(monkeypatch):
    monkeypatch.setattr(FORMATS, "_entered", dict(FORMATS._entered))


def test_the_built_in_ones_in_the_order_they_are_made():
    names = ["safetensors", "pt2", "onnx", "onnx-int8", "onnx-fp16", "openvino", "executorch", "litert", "coreml"]
    assert list(FORMATS)[:9] == names
    assert check_formats([]) == ["safetensors", "pt2", "onnx", "onnx-int8"]
    files = [FORMATS[name].file for name in names]
    assert files[:5] == [
        "student.safetensors",
        "student.pt2",
        "student.onnx",
        "student.int8.onnx",
        "student.fp16.onnx",
    ]
    assert files[5:] == ["student.xml", "student.pte", "student.tflite", "student.mlpackage"]


def test_listing_them_does_not_import_torch():
    code = "import sys, attar; print(len(attar.list_formats()), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["9", "False"]


@pytest.mark.parametrize(
    ("name", "suffix", "message"),
    [
        ("onnx", ".ox", "format 'onnx' is registered already"),
        ("mine", ".pt2", "format 'mine': suffix '.pt2' is that of format 'pt2'; choose another"),
        ("mine", "pt3", "format 'mine': suffix must begin with a dot, got 'pt3'"),
    ],
)
def test_taken_names_and_suffixes_are_refused(name, suffix, message):
    with pytest.raises(AttarError, match=message):
        register_format(name, suffix=suffix, title="", write=print, open=torch.load)


def test_predict_takes_the_format_with_the_longest_suffix(tmp_path):
    def classifier(path):
        return Classifier(("a", "b"), (1, 2, 2), 2, None, None, lambda images: np.zeros((len(images), 2)))

    with pytest.raises(AttarError, match=r"student.mine.onnx does not exist"):
        open_classifier(tmp_path / "student.mine.onnx")
    register_format(
        "mine", suffix=".mine.onnx", title="", write=print, open=torch.load, exact=False, classifier=classifier
    )
    assert open_classifier(tmp_path / "student.mine.onnx").classes == ("a", "b")
    (tmp_path / "student.mine.onnx").touch()
    assert open_classifier(tmp_path).classes == ("a", "b")
