"""The loop trains any task: its measures, accumulation over what counts, and exact resume."""

import io
import json

import pytest
import torch
from rich.console import Console
from torch import nn

from attar.accel.runtime import Runtime
from attar.data.loading.tensor_loader import TensorLoader
from attar.data.tensor_set import TensorSet
from attar.methods import create_method
from attar.recipe import read_recipe
from attar.train.label_losses import smooth_labels
from attar.train.loop import Places, fit
from attar.train.progress import Progress


class Bigram(nn.Module):
    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.table = nn.Embedding(7, 7)

    def forward(self, ids):
        return self.table(ids)


def sequences(count, masked):
    ids = torch.randint(7, (count, 6), generator=torch.Generator().manual_seed(count))
    weight = (torch.arange(5) <= (torch.arange(count) % 5)[:, None]).float() if masked else None
    return TensorSet(ids[:, :-1], ids[:, 1:], "ids", 7, weight=weight)


class Cut(TensorLoader):
    """The loader of a process that dies before a step."""

    def epoch(self, epoch, start_step=0):
        for batch in super().epoch(epoch, start_step):
            if (epoch, batch.address.step) == (1, 1):
                raise KeyboardInterrupt
            yield batch


def train(folder, loader=TensorLoader, batch_size=3, masked=True, **optim):
    method = create_method("kd", teacher=Bigram(0), student=Bigram(1), task="language")
    recipe = read_recipe(epochs=2, batch_size=batch_size, optim={"lr": 0.5, "schedule": "constant", **optim})
    batches = loader(sequences(11, masked), batch_size, epochs=2)
    lines = io.StringIO()
    with Progress(Console(file=lines), "kd", 2, len(batches), batch_size) as progress:
        runtime = Runtime(torch.device("cpu"), "float32", "")
        folder.mkdir(exist_ok=True)
        fit(method, batches, sequences(4, masked), recipe, runtime, Places(folder), progress)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return method.student.module.table.weight.detach(), records, lines.getvalue()


def test_the_record_holds_the_measures_of_the_task(tmp_path):
    _, records, lines = train(tmp_path)
    assert {"train_perplexity", "val_perplexity", "val_bits"} <= records[0].keys()
    assert not [key for key in records[0] if "top1" in key]
    assert f"val {records[-1]['val_perplexity']:.2f}" in lines


def test_accumulated_batches_with_unequal_tokens_are_one_large_batch(tmp_path):
    small, *_ = train(tmp_path / "small", batch_size=3, accumulate=4)
    large, *_ = train(tmp_path / "large", batch_size=11)
    assert torch.allclose(small, large, atol=1e-6)


def test_label_smoothing_warns_where_there_is_no_cross_entropy():
    method = create_method("supervised", student=Bigram(0), task="multilabel")
    assert "'supervised' has no cross-entropy with the labels, so optim.label_smoothing" in smooth_labels(method, 0.1)
    assert smooth_labels(create_method("supervised", student=Bigram(0), task="language"), 0.1) is None


def test_the_least_perplexity_is_kept(tmp_path):
    _, records, _ = train(tmp_path, lr=50.0)
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["best"]
    assert kept["val_perplexity"] == min(record["val_perplexity"] for record in records)


def test_an_interrupted_run_goes_on_exactly(tmp_path):
    whole, records, _ = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", loader=Cut)
    resumed, again, _ = train(tmp_path / "cut")
    assert torch.equal(resumed, whole)
    assert again == records
