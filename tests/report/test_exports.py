"""The tables of files and of costs fit a terminal of 80 columns."""

import io
from pathlib import Path

import torch
from rich.console import Console

import attar
from attar.deploy.export import Export, Exported
from attar.deploy.parity import Parity
from attar.metrics.classification import ClassificationMetrics
from attar.profiling import Latency, Profile
from attar.report.exports import export_notes, export_table, profile_notes, profile_table

SCORING = ClassificationMetrics().scoring


def printed(table):
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    return out.getvalue()


def exported(name, difference, calibrated=None):
    parity = Parity(difference, difference / 10, 0.9723, 0.6064)
    return Exported(name, "student.x", 333_000, parity, Latency(9.994, 0.5), Latency(123.4, 10.4), calibrated)


def test_exported_files():
    export = Export(
        Path(), [exported("safetensors", 1e-5), exported("onnx-int8", 5.88, 512)], SCORING, {}, 10_000, "cifar100"
    )
    table = export_table(export)
    assert table.rows[1] == ["onnx-int8", "333 kB", "5.9", "97.23", "60.64", "9.99 (0.50)", "123 (10)"]
    text = printed(table)
    assert "Exported (cifar100, 10,000 test images, one thread)" in text
    assert "…" not in text
    assert len(text.splitlines()) == 7
    assert "512 training images" in export_notes(export)
    assert "training images" not in export_notes(Export(Path(), [exported("onnx", 0.0)], SCORING))


def test_profiles():
    found = Profile(1_209_834, 11_030_000, 4_860_000, 16, Latency(0.69, 0.01), Latency(14.25, 1.2), 340_000, 2)
    table = profile_table({"resnet8x4": found})
    row = ["resnet8x4", "1,209,834", "11.03", "0.69 (0.01)", "14.2 (1.2)", "340 kB", "4.86 MB"]
    assert table.rows == [row]
    assert "ms, 16" in table.columns
    assert "…" not in printed(table)
    assert "(2 threads)" in table.title
    assert "with 16 inputs" in profile_notes(16)


def test_a_notebook_shows_a_profile_as_a_table():
    shown = attar.profile(torch.nn.Linear(4, 2, bias=False), (4,), batch=8)
    assert isinstance(shown, attar.Profile)
    page = shown._repr_html_()
    assert "Cost of one input" in page
    assert "with 8 inputs" in page
