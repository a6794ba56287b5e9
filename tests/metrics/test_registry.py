"""Registered metrics: by value, over batches, and from a recipe to the tables of a run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score

import attar
from attar.batch import Batch
from attar.errors import AttarError
from attar.metrics import ClassificationMetrics
from attar.metrics.nodes import NodeMetrics
from attar.metrics.registry import METRICS, Extended
from attar.recipe import read_recipe
from attar.tasks import Classification
from attar.tasks.registry import task_of


def counted(names, logits, labels, batch=7, weight=None):
    metrics = Extended(ClassificationMetrics(), names)
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        rows = None if weight is None else weight[part]
        metrics.update(logits[part], Batch(logits[part], labels[part], weight=rows))
    return metrics


def test_they_are_scikit_learns_over_batches_of_any_size():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 6, generator=generator), torch.randint(0, 5, (50,), generator=generator)
    found = counted(["macro_f1", "balanced_accuracy"], logits, labels).compute()
    predicted = logits.argmax(1).numpy()
    assert found["macro_f1"] == pytest.approx(
        f1_score(labels, predicted, average="macro", labels=np.arange(6)), abs=1e-12
    )
    assert found["balanced_accuracy"] == pytest.approx(
        np.mean([(predicted == k)[labels.numpy() == k].mean() for k in range(5)]), abs=1e-12
    )
    assert found["top1"] == counted([], logits, labels).compute()["top1"]
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-12)


def test_rows_without_weight_do_not_count():
    logits, labels = torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 1, 2, 1])
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert counted(["macro_f1"], logits, labels, weight=weight).compute()["macro_f1"] == 1.0


def test_a_recipe_names_them_and_results_hold_them(tmp_path):
    @attar.register_metric("always_half", title="half", compute=lambda sums: float(sums["half"] / sums["rows"]))
    def always_half(output, batch):
        return {"half": output.new_tensor(0.5 * len(output)), "rows": output.new_tensor(float(len(output)))}

    try:
        small = {"student": "resnet8", "data": "digits", "epochs": 1, "method": "supervised", "alone": "skip"}
        summary = attar.train_model(metrics="always_half,macro_f1", out=str(tmp_path), **small)
        assert [column for column in summary.score_table().columns if column in ("half", "macro F1 %")] == [
            "half",
            "macro F1 %",
        ]
        scores = json.loads((tmp_path / "results.json").read_text())["runs"][0]["student"]["scores"]
        assert scores["always_half"] == 0.5
        assert 0 <= scores["macro_f1"] <= 1
    finally:
        del METRICS._records["always_half"]


def test_tables_count_what_the_task_counts():
    """Nodes of a graph, also with a further metric."""
    assert Extended(NodeMetrics(), ["macro_f1"]).scoring.entries == "nodes"


def test_unknown_and_double_names_are_one_line():
    with pytest.raises(AttarError, match="unknown metric 'macro_f2'; did you mean 'macro_f1'"):
        task_of(read_recipe(metrics="macro_f2"))
    with pytest.raises(AttarError, match="metrics=top1: the task is scored by it already"):
        task_of(read_recipe(metrics=["top1"]))


def test_a_task_given_as_an_object_is_scored_by_them_too(tmp_path):
    small = {"student": "resnet8", "data": "digits", "epochs": 1, "method": "supervised", "alone": "skip"}
    attar.train_model(task=Classification(), metrics="macro_f1", out=str(tmp_path), **small)
    assert "macro_f1" in json.loads((tmp_path / "results.json").read_text())["runs"][0]["student"]["scores"]
