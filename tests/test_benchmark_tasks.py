"""The command that goes from files to a table for tasks that are no image classification."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "tasks.py"


@pytest.fixture
def main():
    spec = importlib.util.spec_from_file_location("benchmark_tasks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_a_text_becomes_a_table_and_a_second_call_changes_nothing(main, tmp_path, capsys):
    pytest.importorskip("transformers")
    text, out = tmp_path / "text.txt", tmp_path / "run"
    text.write_text("abcd efgh. " * 60, encoding="utf-8")
    small = ["n_layer=1", "n_embd=8", "n_head=1", "n_positions=8"]
    words = ["data=text", f"data.root={text}", "data.block_size=8", "epochs=1", "batch_size=16", f"out={out}"]
    for role in ("teacher", "student"):
        words += [f"{role}=hf-config/gpt2", *(f"{role}.options.{one}" for one in small)]
    words += ["method=kd", "optim.name=adamw", "optim.lr=0.01", "seeds=2", "divergence=js"]
    main(words)
    results = json.loads((out / "results.json").read_text())
    assert [len(results[key]) for key in ("teacher", "alone", "distilled")] == [1, 2, 2]
    assert {"perplexity", "bits", "accuracy", "agreement", "kl"} == results["distilled"][0].keys()
    table = (out / "table.md").read_text()
    assert "| distilled |" in table
    main(words)
    assert json.loads((out / "results.json").read_text()) == results
    assert (out / "table.md").read_text() == table
