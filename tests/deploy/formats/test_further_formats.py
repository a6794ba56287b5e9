"""Half precision, OpenVINO, LiteRT and Core ML: what each file computes, what belongs to it, and what is refused."""

import importlib.util
from dataclasses import replace

import pytest
import torch

import attar
from attar.deploy import export_student, read_export
from attar.deploy.formats import FORMATS
from attar.errors import AttarError
from attar.files import write_json
from attar.report.exports import export_notes, export_table


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"needs {package}")


FURTHER = [
    pytest.param("onnx-fp16", 0.02, marks=needs("onnxruntime")),
    pytest.param("openvino", 1e-3, marks=needs("openvino")),
    pytest.param("litert", 1e-3, marks=needs("litert_torch")),
]


@pytest.fixture
def student(drawn_student):
    return drawn_student


@pytest.mark.parametrize(("name", "allowed"), FURTHER)
def test_it_computes_what_the_student_computes(name, allowed, student, tmp_path):
    done = export_student(student, tmp_path, [name])
    assert not done.failures
    (file,) = done.files
    assert file.parity.relative <= allowed
    assert file.parity.same_label >= 0.9
    assert file.calibrated is None
    assert file.bytes == sum(one.stat().st_size for one in tmp_path.iterdir())
    net = FORMATS[name].open(tmp_path / file.file)
    with torch.no_grad():
        torch.testing.assert_close(net(student.example[:1]), student.net(student.example[:1]), atol=0.1, rtol=0.02)


@needs("onnxruntime")
def test_half_precision_is_half_the_size_and_takes_float32(student, tmp_path):
    done = export_student(student, tmp_path, ["onnx", "onnx-fp16"])
    whole, half = done.files
    assert half.bytes < 0.6 * whole.bytes
    assert attar.predict(tmp_path / half.file, [], top=1) == []


@needs("openvino")
def test_evaluate_reads_the_facts_out_of_an_openvino_file(student, tmp_path):
    export_student(student, tmp_path, ["openvino"])
    assert FORMATS["openvino"].facts(tmp_path / "student.xml")["classes"] == student.facts["classes"]
    assert attar.evaluate(tmp_path / "student.xml", "digits")["count"] == 898
    (tmp_path / "student.bin").unlink()
    with pytest.raises(AttarError, match=r"its \.bin is missing"):
        attar.evaluate(tmp_path / "student.xml", "digits")


@needs("coremltools")
def test_a_core_ml_file_is_checked_in_structure_alone_and_the_table_shows_it(student, tmp_path):
    done = export_student(student, tmp_path, ["coreml"])
    assert not done.failures
    (file,) = done.files
    assert (file.parity, file.latency, file.batch_latency) == (None, None, None)
    assert file.bytes == sum(one.stat().st_size for one in tmp_path.rglob("*") if one.is_file())
    assert "not run" in export_table(done).markdown()
    assert "runs on Apple's systems alone" in export_notes(done)
    write_json(tmp_path / "export.json", done.to_json())
    assert read_export(tmp_path).files == done.files


def test_a_format_that_fails_leaves_nothing_of_itself(student, tmp_path, monkeypatch):
    def write(student, path):
        path.write_text("x")
        path.with_suffix(".bin").write_text("x")
        raise AttarError("no")

    monkeypatch.setitem(FORMATS._records, "openvino", replace(FORMATS["openvino"], write=write, packages=()))
    done = export_student(student, tmp_path, ["openvino"])
    assert done.failures == {"openvino": "no"}
    assert not [*tmp_path.iterdir()]


def test_a_format_needs_open_or_check():
    with pytest.raises(AttarError, match=r"give open\(path\), or check"):
        attar.register_format("nothing", suffix=".nothing", title="", write=print)
