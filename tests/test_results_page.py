"""The page of results says what the committed records say, and a record is read as the suite it was made of."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
