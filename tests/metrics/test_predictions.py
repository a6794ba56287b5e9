"""Answers kept for a report: true to the scores, small, and read without executing anything."""

import pickle
import zipfile
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Output
from attar.metrics import ClassificationMetrics as Classes
from attar.metrics import ece, evaluate, kl
from attar.metrics.confusions import confusions, disagreements, reliability_bins
from attar.metrics.predictions import Predictions, evaluate_each, load_predictions, save_predictions


class Scaled(nn.Module):
    """Answers with its input times a number, as an `Output` where asked."""

    def __init__(self, scale, output=False):
        super().__init__()
        self.scale, self.output = scale, output

    def forward(self, images):
        return Output(images * self.scale) if self.output else images * self.scale


@pytest.fixture
def batches():
    random = torch.Generator().manual_seed(0)
    return [Batch(torch.randn(n, 7, generator=random), torch.arange(n) % 7) for n in (30, 30, 11)]


def test_the_scores_are_those_of_evaluate(batches):
    scores, each = evaluate_each(Scaled(2.0), batches, Classes(), Scaled(1.0))
    assert scores == {**asdict(evaluate(Scaled(2.0), batches, Scaled(1.0))), "per_class": scores["per_class"]}
    assert len(each) == 71
    assert each.correct.mean() == pytest.approx(scores["top1"])
    assert each.kl.mean() == pytest.approx(scores["kl"], rel=1e-3)


def test_each_answer(batches):
    _, each = evaluate_each(Scaled(2.0), batches, Classes(), Scaled(1.0))
    logits, labels = torch.cat([batch.inputs for batch in batches]), torch.cat([batch.labels for batch in batches])
    best = (2 * logits).softmax(1).topk(2)
    assert np.array_equal(each.labels, labels)
    assert np.array_equal(each.top, best.indices)
    assert np.allclose(each.confidence, best.values, atol=1e-3)
    assert each.kl[3] == pytest.approx(kl(2 * logits[3:4], logits[3:4]), rel=1e-3)


def test_equal_logits_and_a_network_that_answers_with_an_output():
    _, each = evaluate_each(Scaled(1.0, output=True), [Batch(torch.zeros(3, 4), torch.tensor([0, 1, 2]))], Classes())
    assert each.top[0].tolist() == [0, 1]
    assert each.kl is None


def test_one_class_and_diverged_networks():
    _, single = evaluate_each(Scaled(1.0), [Batch(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long))], Classes())
    assert single.top.shape == (3, 1)
    far = [Batch(torch.eye(3) * 1e6, torch.arange(3))]
    _, each = evaluate_each(Scaled(-1.0), far, Classes(), Scaled(1.0))
    assert np.isfinite(each.kl).all()
    _, lost = evaluate_each(Scaled(torch.nan), far, Classes())
    assert np.isnan(lost.confidence).all()


def test_files_come_back_alike_and_are_small(tmp_path):
    random = np.random.default_rng(0)
    top = random.integers(0, 100, (10_000, 2)).astype(np.int32)
    kept = Predictions(
        top[:, 0], top, random.random((10_000, 2)).astype(np.float16), random.random(10_000).astype("f2")
    )
    save_predictions(kept, tmp_path / "predictions.npz")
    again = load_predictions(tmp_path / "predictions.npz")
    assert all(
        np.array_equal(getattr(kept, name), getattr(again, name)) for name in ("labels", "top", "confidence", "kl")
    )
    assert (tmp_path / "predictions.npz").stat().st_size < 120_000
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.npz"]


def write_pickle(file):
    with zipfile.ZipFile(file, "w") as archive, archive.open("labels.npy", "w") as entry:
        np.lib.format.write_array(entry, np.array([{}], object), allow_pickle=True)


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"PK\x03\x04"),
        lambda file: file.write_bytes(pickle.dumps([1])),
        write_pickle,
        lambda file: np.savez(file, labels=np.zeros(3, int)),
        lambda file: np.savez(file, labels=np.zeros(3, int), top=np.zeros((2, 2), int), confidence=np.zeros((3, 2))),
        lambda file: np.savez(file, labels=np.zeros(3), top=np.zeros((3, 2), int), confidence=np.zeros((3, 2))),
        lambda file: np.savez(file, labels=np.zeros(3, int), top=np.zeros((3, 2), int), confidence=np.zeros((3, 1))),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path, write):
    file = tmp_path / "predictions.npz"
    write(file)
    with pytest.raises(AttarError, match=r"predictions\.npz.*delete it to go on without") as error:
        load_predictions(file)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AttarError, match="cannot read"):
        load_predictions(tmp_path / "none.npz")


def test_the_bins_give_the_calibration_error(batches):
    _, each = evaluate_each(Scaled(2.0), batches, Classes())
    logits, labels = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("inputs", "labels"))
    bins = reliability_bins([each, each])
    total = sum(count for count, _, _ in bins)
    assert total == 2 * 71
    found = sum(count * abs(confidence - accuracy) for count, confidence, accuracy in bins) / total
    assert found == pytest.approx(ece(2 * logits, labels), abs=1e-3)


def made(labels, outputs, **more):
    return Predictions(np.array(labels), np.array(outputs)[:, None], np.ones((len(labels), 1)), **more)


def test_confusions_are_the_mean_over_the_seeds_most_first():
    seeds = [made([0, 0, 1, 2], [1, 1, 1, 0]), made([0, 0, 1, 2], [0, 1, 0, 0])]
    assert confusions(seeds) == {(0, 1): 1.5, (2, 0): 1.0, (1, 0): 0.5}
    assert next(iter(confusions(seeds))) == (0, 1)
    assert confusions([made([0, 1], [0, 1])]) == {}


def test_disagreements_without_kl_and_of_networks_that_agree():
    student = made([0, 1, 2], [1, 1, 0])
    assert disagreements(student, made([0, 1, 2], [0, 1, 2]), 24) == [0, 2]
    assert disagreements(student, made([0, 1, 2], [0, 1, 2]), 1) == [0]
    assert disagreements(student, student, 24) == []
