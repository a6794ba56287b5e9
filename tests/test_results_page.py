"""The page of results says what the committed records say, and a record is read as the suite it was made of."""

import importlib.util
import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from attar.experiments.suites import attempts
from attar.experiments.suites.bench import Bench, read_suite

ROOT = Path(__file__).parents[1]
SUITE = """
methods: [{methods}]
pairs: [{{teacher: {{name: resnet14, epochs: 1, precision: float32}}, student: resnet8}}]
seeds: 1
recipe: {{data: {{name: digits, train_size: 60}}, epochs: 1, batch_size: 20, precision: float32}}
"""


@pytest.fixture(scope="module")
def records():
    spec = importlib.util.spec_from_file_location("records", ROOT / "benchmarks" / "records.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_of_the_records(records):
    assert records.PAGE.read_text() == records.page(), "run: python benchmarks/records.py page"


def test_the_readme_has_the_tables_of_the_records(records):
    readme = (ROOT / "README.md").read_text()
    for record in filter(Path.is_dir, records.RECORDS.iterdir()):
        assert records.brief(record).strip() in readme, f"run: python benchmarks/records.py brief {record.name}"


def test_every_record_names_a_committed_suite(records):
    for record in filter(Path.is_dir, records.RECORDS.iterdir()):
        about = (record / "about.md").read_text()
        assert f"benchmarks/suites/{record.name}.yaml" in about
        assert (ROOT / "benchmarks" / "suites" / f"{record.name}.yaml").is_file()


def test_a_record_has_the_tables_of_its_suite_and_nothing_large(records, tmp_path):
    from attar.report.bench_files import CELLS, read_bench
    from attar.report.bench_tables import BenchTables

    source = next(path for path in records.RECORDS.iterdir() if path.is_dir())
    run = source / json.loads((source / CELLS).read_text())["cells"][0]["folder"]
    whole = json.loads((run / "results.json").read_text())
    whole["runs"][0]["student"]["scores"]["per_class"] = [0.5] * 100
    suite = tmp_path / "suite"
    records.shutil.copytree(source, suite)
    (suite / run.relative_to(source) / "results.json").write_text(json.dumps(whole))
    (suite / run.relative_to(source) / "student.safetensors").write_bytes(b"0" * 1000)
    kept = records.keep(suite, tmp_path / "records" / "again")
    assert {file.name for file in kept} <= {*records.KEPT, records.CHOICES}
    assert "per_class" not in (tmp_path / "records" / "again" / run.relative_to(source) / "results.json").read_text()
    again, first = (BenchTables(read_bench(folder)) for folder in (tmp_path / "records" / "again", source))
    assert again.csv().count("\n") == first.csv().count("\n")
    assert again.markdown() == first.markdown()


def test_a_copy_of_a_record_goes_on_with_what_is_added(records, monkeypatch, tmp_path):
    """Finished runs need neither their checkpoints nor their teachers."""
    begun, work = [], attempts.work
    monkeypatch.setattr(attempts, "work", lambda cell, *rest: (begun.append(cell.row), work(cell, *rest)))

    def bench(methods: str) -> Bench:
        (tmp_path / "suite.yaml").write_text(SUITE.format(methods=methods))
        return read_suite(tmp_path / "suite.yaml", [f"out={tmp_path / 'out'}", "jobs=1"], Console(file=io.StringIO()))

    bench("kd").run()
    first = (tmp_path / "out" / "table.md").read_text()
    records.keep(tmp_path / "out", tmp_path / "record")
    shutil.rmtree(tmp_path / "out")
    shutil.copytree(tmp_path / "record", tmp_path / "out")
    begun.clear()
    bench("kd").run()
    assert begun == []
    assert (tmp_path / "out" / "table.md").read_text() == first
    bench("kd, supervised").run()
    assert begun == ["teacher resnet14", "supervised"]
