"""Jobs of tasks that are no image classification: from files to reports, killed and resumed."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import attar
import graphs
from attar.batch import Counts
from attar.data import DeviceLoader, TensorLoader, eval_batches
from attar.errors import Stopped
from attar.experiments.build import Parts, held_for
from attar.experiments.job import Job
from attar.experiments.replay import replay
from attar.experiments.suites.bench import read_suite
from attar.methods import Method
from attar.metrics import score
from attar.recipe import read_recipe
from attar.tasks import task_of
from text_runs import FAST, language, sentence, write_sentences

QUIET = Console(file=io.StringIO())


@pytest.fixture
def command(request):
    """Runs a command, as the fixture `attar` does, whose name is the package's here."""
    return request.getfixturevalue("attar")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("abcd efgh. " * 60, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Twelve images of 32 x 32; image n has n + 1 dots."""
    image, folder = pytest.importorskip("PIL.Image"), tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        image.fromarray(pixels).save(folder / f"{number:03d}cell.png")
        dots = np.zeros((32, 32), np.uint8)
        dots[[2 * row for row in range(number + 1)], 3] = 255
        image.fromarray(dots).save(folder / f"{number:03d}dots.png")
    return folder


def density(cells):
    """A recipe's keys: CSRNet at a 32nd and a 64th of its width."""
    nets = ({"name": "csrnet", "options": {"divisor": divisor}} for divisor in (32, 64))
    data = {"name": "cells", "root": str(cells), "val_fraction": 0.2}
    names = dict(zip(("teacher", "student"), nets, strict=True))
    return {**FAST, **names, "data": data, "method": "skt", "batch_size": 2, "select": "best"}


def online(text):
    """A recipe's keys: as of `language`, with modules in the teacher and averaged weights."""
    pytest.importorskip("peft")
    optim = {**FAST["optim"], "ema": 0.9}
    return {
        **language(text),
        "method": {"name": "okd", "rank": 2},
        "task": {"divergence": "alpha_beta"},
        "optim": optim,
    }


def multilabel():
    """A recipe's keys: two small ResNets on a few mosaics."""
    data = {"name": "digit_mosaics", "train_images": 22, "test_images": 12}
    return {**FAST, "teacher": "resnet14", "student": "resnet8", "data": data, "method": "kd", "batch_size": 6}


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    return write_sentences(tmp_path_factory.mktemp("sentences"))


@pytest.fixture(scope="module")
def channels(tmp_path_factory):
    """Forty channels of 4 delays and 8 antennas, smooth over the antennas."""
    file, rng = tmp_path_factory.mktemp("channels") / "mine.npz", np.random.default_rng(0)
    angles = np.exp(2j * np.pi * rng.random((40, 4, 1)) * np.arange(8))
    np.savez(file, inputs=angles * np.exp(-np.arange(4))[:, None])
    return file


def channel(channels):
    """A recipe's keys: CsiNet at half and a quarter of its width, in encoder KD."""
    nets = ({"name": "csinet", "options": {"width": width}} for width in (4, 2))
    data = {"name": "channels", "root": str(channels), "val_fraction": 0.2}
    names = dict(zip(("teacher", "student"), nets, strict=True))
    return {**FAST, **names, "data": data, "method": "encoderkd", "batch_size": 8, "select": "best"}


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory):
    return graphs.write(tmp_path_factory.mktemp("graph") / "mine.npz")


def graph(file):
    """A recipe's keys: GAT teaches GCN on one graph, so that an epoch is one step."""
    pytest.importorskip("torch_geometric")
    nets = {"teacher": ("pyg/gat", {"hidden": 8, "heads": 2}), "student": ("pyg/gcn", {"hidden": 4})}
    pair = {role: {"name": name, "options": options} for role, (name, options) in nets.items()}
    data = {"name": "graph", "root": str(file)}
    return {**FAST, **pair, "data": data, "method": "stride", "batch_size": 1, "select": "best"}


KINDS = {
    "language": language,
    "density": density,
    "multilabel": multilabel,
    "online": online,
    "channel": channel,
    "text": sentence,
    "graph": graph,
}
TASKS = [kind for kind in KINDS if kind in attar.list_tasks()]
PRIMARY = {
    "language": ("perplexity", "sequences"),
    "density": ("mae", "images"),
    "multilabel": ("map", "images"),
    "online": ("perplexity", "sequences"),
    "channel": ("nmse", "channels"),
    "text": ("accuracy", "sentences"),
    "graph": ("accuracy", "nodes"),
}
# The (epoch, step) at which jobs are killed, one after the other, and break; a graph is one step an epoch.
KILLS = {kind: [(1, 0), (0, 0), (1, 0)] if kind == "graph" else [(1, 1), (0, 1), (1, 0)] for kind in KINDS}


@pytest.fixture(scope="module")
def recipes(text, cells, channels, sentences, graph_file):
    return {
        "language": lambda: language(text),
        "density": lambda: density(cells),
        "multilabel": multilabel,
        "online": lambda: online(text),
        "channel": lambda: channel(channels),
        "text": lambda: sentence(sentences),
        "graph": lambda: graph(graph_file),
    }


@pytest.fixture(scope="module")
def runs(recipes, tmp_path_factory):
    """A finished run of each kind, made once."""
    made = {}

    def run(kind):
        if kind not in made:
            out = tmp_path_factory.mktemp(kind) / "run"
            made[kind] = attar.distill(**recipes[kind](), out=str(out), console=QUIET)
        return made[kind]

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_scored_by_its_task_from_the_curves_to_the_report(runs, kind):
    summary, (name, samples) = runs(kind), PRIMARY[kind]
    tree = json.loads((summary.folder / "results.json").read_text())
    assert tree["scoring"]["measures"][0]["name"] == name
    assert tree["runs"][0]["student"]["scores"][name] == summary.runs[0]["student"].scores[name]
    records = [json.loads(line) for line in (summary.folder / "metrics.jsonl").read_text().splitlines()]
    running = (
        task_of(summary.recipe).metrics().running().primary.name
    )  # less than the primary measure, where that costs
    assert {f"train_{running}", f"val_{name}"} <= records[0].keys()
    best = torch.load(summary.folder / "checkpoint.pt", weights_only=True)["best"]
    choose = max if summary.measure.higher else min
    assert best[f"val_{name}"] == choose(record[f"val_{name}"] for record in records)
    assert f" {samples}" in summary.score_table().title
    assert summary.measure.points in summary.sentence()
    page = summary.report.read_text()
    assert f"Validation {summary.measure.label}" in page
    assert "top-1" not in page
    assert "top1" not in page


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_and_resume_give_the_scores_of_the_run(runs, kind):
    summary = runs(kind)
    name = PRIMARY[kind][0]
    scores = summary.runs[0]["student"].scores
    assert attar.evaluate(summary.folder)[name] == pytest.approx(scores[name], rel=1e-6)
    assert attar.resume(summary.folder, console=QUIET).runs[0]["student"].scores == scores


def killed(monkeypatch, out, crashes):
    """Kill a job at these batches, one after the other; those that are still to come."""
    for loader in (TensorLoader, DeviceLoader):

        def cut(self, number, start_step=0, epoch=loader.epoch):
            for batch in epoch(self, number, start_step):
                where = (batch.address.epoch, batch.address.step)
                if crashes and where == crashes[0] and (out / "recipe.yaml").exists():
                    crashes.pop(0)
                    raise KeyboardInterrupt
                yield batch

        monkeypatch.setattr(loader, "epoch", cut)
    return crashes


@pytest.mark.parametrize(
    "kind",
    [kind if kind == "language" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
def test_a_killed_run_resumed_is_the_run_that_was_not(runs, recipes, kind, tmp_path, monkeypatch):
    whole, out = runs(kind), tmp_path / "broken"
    crashes = killed(monkeypatch, out, list(KILLS[kind]))
    with pytest.raises((Stopped, KeyboardInterrupt)):  # in training, or while the batch is tried
        attar.distill(**recipes[kind](), out=str(out), console=QUIET)
    while crashes:
        with pytest.raises((Stopped, KeyboardInterrupt)):  # in training, or while the batch is tried
            attar.resume(out, console=QUIET)
    again = attar.resume(out, console=QUIET)
    for part in (".", "alone", "teacher"):
        assert (out / part / "metrics.jsonl").read_text() == (whole.folder / part / "metrics.jsonl").read_text()
        one, other = (load_file(place / part / "student.safetensors") for place in (out, whole.folder))
        assert [key for key in one if not torch.equal(one[key], other[key])] == []
    for name, result in again.runs[0].items():
        assert result.scores == whole.runs[0][name].scores


def everything_at_once(keys, cache):
    """The recipe with averaged weights, accumulated batches, a teacher cache and a checkpoint after every step."""
    teacher = keys["teacher"] if isinstance(keys["teacher"], dict) else {"name": keys["teacher"]}
    optim = {"name": "sgd", "lr": 0.05, "schedule": "constant", "ema": 0.5, "accumulate": 2, "clip_norm": 1.0}
    further = {"method": "kd", "alone": "skip", "optim": optim, "checkpoint_minutes": 1e-9, "select": "last"}
    return {**keys, **further, "teacher": {**teacher, "cache": str(cache)}}


@pytest.mark.parametrize(
    "kind", [kind if kind == "language" else pytest.param(kind, marks=pytest.mark.slow) for kind in TASKS]
)
def test_ema_accumulation_and_the_teacher_cache_change_no_bit_of_a_killed_run(recipes, kind, tmp_path, monkeypatch):
    keys = everything_at_once(recipes[kind](), tmp_path / "cache")
    whole = attar.distill(**keys, out=str(tmp_path / "whole"), console=QUIET)
    assert len(list((tmp_path / "cache").rglob("epoch*.*"))) >= 2
    out = tmp_path / "broken"
    crashes = killed(monkeypatch, out, KILLS[kind][:1])
    with pytest.raises((Stopped, KeyboardInterrupt)):  # in training, or while the batch is tried
        attar.distill(**keys, out=str(out), console=QUIET)
    again = attar.resume(out, console=QUIET)
    assert not crashes
    one, other = (load_file(place / "student.safetensors") for place in (out, whole.folder))
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    assert again.runs[0]["student"].scores == whole.runs[0]["student"].scores
    averaged, last = (torch.load(out / "checkpoint.pt", weights_only=True)[key] for key in ("ema", "method"))
    assert any(not torch.equal(averaged[key], last[key]) for key in averaged)


class Breaks(torch.nn.Module):
    """A loss that is infinite at one step."""

    counts = True

    def __init__(self, at):
        super().__init__()
        self.at = at

    def forward(self, learner, source, weight=None):
        return learner.float().mean() / (0 if self.where == self.at else 1)


@pytest.mark.parametrize(
    "kind", [kind if kind == "text" else pytest.param(kind, marks=pytest.mark.slow) for kind in TASKS]
)
def test_an_infinite_loss_is_found_and_replayed(recipes, kind, tmp_path, monkeypatch):
    edges, losses_of, broken = Method.adjusted, Method.batch_losses, Breaks(KILLS[kind][0])

    def adjusted(self):
        first, *others = edges(self)
        more = [replace(first, loss=broken, via=None, given=(), weight=1.0, name="bad")] * (self.name != "supervised")
        return (first, *others, *more)

    def batch_losses(self, batch):
        broken.where = (batch.address.epoch, batch.address.step)
        return losses_of(self, batch)

    monkeypatch.setattr(Method, "adjusted", adjusted)
    monkeypatch.setattr(Method, "batch_losses", batch_losses)
    keys = {**recipes[kind](), "method": "kd", "alone": "skip"}
    with pytest.raises(attar.AttarError, match=f"at epoch 2, step {broken.at[1]}: edge 'bad'"):
        attar.distill(**keys, out=str(tmp_path / "run"), console=QUIET)
    assert replay(tmp_path / "run" / "failure.pt", QUIET).edge == "bad"


@pytest.mark.parametrize("kind", TASKS)
def test_unequal_parts_of_a_batch_are_the_whole_batch(recipes, kind, tmp_path):
    # A file holds one graph, so that its batch is made of five that differ in their features.
    keys = {**recipes[kind](), "method": "kd", "alone": "skip", "batch_size": 1 if kind == "graph" else 5}
    training = Job(read_recipe(**keys), tmp_path / "run", QUIET).training(0)
    batch, method, task = next(iter(training.loader.epoch(0))), training.method.double().eval(), training.method.task
    if kind == "graph":
        batch = batch.rows(torch.zeros(5, dtype=torch.long))
        batch.inputs["features"] = batch.inputs["features"] * torch.rand(5, 1, 6)
    entries = batch.labels.shape[:2] if kind in ("language", "graph") else (5,)
    for weight in (None, (torch.arange(prod(entries)).view(entries) % 3 > 0).double()):
        whole = replace(batch, inputs=doubled(batch.inputs))
        whole.weight = weight
        parts, count = [whole.rows(slice(0, 2)), whole.rows(slice(2, 5))], None if weight is None else weight.sum()
        shares = [replace(part, counts=Counts(5, 5, count, parts=2)) for part in parts]
        one, two = gradient(method, [whole]), gradient(method, shares)
        assert all(torch.allclose(own, other, rtol=1e-9, atol=1e-12) for own, other in zip(one, two, strict=True))
        nets = method.deployed(), method.teacher.module
        scores = [score(nets[0], batches, task.metrics(), nets[1]) for batches in ([whole], parts)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-9)


def doubled(inputs):
    """In float64, as far as they are no token ids."""
    if isinstance(inputs, dict):
        return {name: doubled(one) for name, one in inputs.items()}
    return inputs.double() if inputs.is_floating_point() else inputs


def gradient(method, batches):
    """Of the mean over parts of a batch."""
    method.zero_grad()
    for batch in batches:
        (method.batch_losses(batch).total / len(batches)).backward()
    return [parameter.grad.clone() for parameter in method.parameters()]


# Dropout draws for each process apart.
DROPOUTS = {
    "language": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    "text": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
}


def torchrun(*arguments, **settings):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "attar", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, **settings)


@pytest.mark.slow
@pytest.mark.processes
# Two processes cannot share one graph, and say so (tests/experiments/test_graph_jobs.py).
@pytest.mark.parametrize("kind", [kind for kind in TASKS if kind != "graph"])
def test_a_job_of_two_processes_has_the_scores_of_one(recipes, kind, tmp_path):
    keys = everything_at_once(recipes[kind](), tmp_path / "cache")
    for net in ("teacher", "student"):
        if kind in DROPOUTS:
            keys[net] = {**keys[net], "options": {**keys[net]["options"], **dict.fromkeys(DROPOUTS[kind], 0.0)}}
    one = attar.distill(**keys, out=str(tmp_path / "one"), console=QUIET)
    run = torchrun("distill", tmp_path / "one" / "recipe.yaml", f"out={tmp_path / 'two'}")
    assert run.returncode == 0, run.stderr
    tree = json.loads((tmp_path / "two" / "results.json").read_text())
    expected = one.runs[0]["student"].scores
    found = tree["runs"][0]["student"]["scores"]
    for measure in one.scoring.measures:
        assert found.get(measure.name) == pytest.approx(expected.get(measure.name), rel=1e-3)


def test_a_language_model_is_exported_for_any_length_and_continues_a_text(runs, tmp_path, command):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    run = runs("language").folder
    done = attar.export(run, ["safetensors", "onnx"], out=tmp_path / "files")
    score = runs("language").runs[0]["student"].scores["perplexity"]
    assert [file.parity.score for file in done.files] == pytest.approx([score, score], rel=1e-5)
    from attar.models.graphs.onnx import open_onnx

    ids, net = torch.tensor([[97, 98, 99, 100, 32]]), attar.load(run)
    assert torch.allclose(open_onnx(tmp_path / "files" / "student.onnx")(ids), net(ids), atol=1e-5)
    assert "perplexity" in (tmp_path / "files" / "README.md").read_text()
    (tmp_path / "start.txt").write_text("abcd", encoding="utf-8")
    status, out, _ = command("predict", run, tmp_path / "start.txt", "--tokens", 3, "--json")
    ids = [*b"abcd"]
    for _ in range(3):
        ids.append(int(net(torch.tensor([ids[-8:]]))[0, -1].argmax()))
    expected = bytes(ids[4:]).decode("utf-8", errors="replace")
    assert [one.text for one in attar.predict(run, tmp_path / "start.txt", tokens=3)] == [expected]
    assert (status, json.loads(out)[0]["continuation"]) == (0, expected)


def test_a_counting_network_counts_an_image_and_an_array(runs, cells, tmp_path, command):
    run, net = runs("density").folder, attar.load(runs("density").folder)
    recipe = attar.recipe.read_recipe(data={"name": "cells", "root": str(cells)})
    inputs = attar.create_task("density").load(recipe).train.inputs[:2]
    counts = net(inputs).flatten(1).sum(1).tolist()
    np.savez(tmp_path / "two.npz", inputs=inputs.numpy())
    status, out, _ = command("predict", run, cells / "000cell.png", tmp_path / "two.npz", "--json")
    found = json.loads(out)
    assert status == 0
    assert found[0]["count"] == pytest.approx(counts[0], abs=1e-4)
    assert found[1]["counts"] == pytest.approx(counts, abs=1e-4)
    inputs[0, 0, 0, 0] = torch.nan
    np.savez(tmp_path / "nan.npz", inputs=inputs.numpy())
    status, _, err = command("predict", run, tmp_path / "nan.npz")
    assert (status, err.count("\n")) == (2, 1)
    assert "holds NaN or infinity" in err


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory):
    """The first test image of the multi-label run, and the same as its network sees it."""
    image, file = pytest.importorskip("PIL.Image"), tmp_path_factory.mktemp("mosaic") / "mosaic.png"
    test = attar.load_data("digit_mosaics", train_images=22, test_images=12).test
    image.fromarray(test.images[0, 0].numpy()).save(file)
    return file, next(eval_batches(test, 12)).images[:1]


def labels_of(model, mosaic, run, command):
    """Every label's probability is the sigmoid of its own logit."""
    file, seen = mosaic
    expected = attar.load(run.folder)(seen)[0].sigmoid().sort(descending=True)
    status, out, _ = command("predict", model, file, "--top", 10, "--json")
    labels = json.loads(out)[0]["labels"]
    assert (status, [int(one["label"]) for one in labels]) == (0, expected.indices.tolist())
    assert [one["probability"] for one in labels] == pytest.approx(expected.values.tolist(), abs=1e-5)


def test_a_multilabel_network_gives_each_label_a_probability_of_its_own(runs, mosaic, command):
    labels_of(runs("multilabel").folder, mosaic, runs("multilabel"), command)


@pytest.mark.slow
def test_a_multilabel_network_is_exported(runs, mosaic, tmp_path, command):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    run = runs("multilabel")
    done = attar.export(run.folder, ["safetensors", "pt2", "onnx"], out=tmp_path / "files")
    score = run.runs[0]["student"].scores["map"]
    assert [file.parity.score for file in done.files] == pytest.approx([score] * 3, rel=1e-5)
    assert "gives each of its 10 labels a probability of its own" in (tmp_path / "files" / "README.md").read_text()
    labels_of(tmp_path / "files" / "student.onnx", mosaic, run, command)


@pytest.mark.slow
def test_the_pair_of_encoder_kd_is_exported(runs, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    done = attar.export(runs("channel").folder, ["safetensors", "pt2", "onnx"], out=tmp_path / "files")
    score = runs("channel").runs[0]["student"].scores["nmse"]
    assert [file.parity.score for file in done.files] == pytest.approx([score] * 3, rel=1e-4)


def test_the_pair_of_encoder_kd_reconstructs_the_users_channels(runs, channels, tmp_path, command):
    run, net = runs("channel").folder, attar.load(runs("channel").folder)
    with np.load(channels) as held:
        mine = 5 * held["inputs"][-8:]  # what was tested on, at another power
    np.savez(tmp_path / "mine.npz", inputs=mine)
    status, out, _ = command("predict", run, tmp_path / "mine.npz", "--json")
    found = json.loads(out)[0]
    assert status == 0
    score = runs("channel").runs[0]["student"].scores["nmse"]
    assert 10 * np.log10(np.mean(10 ** (np.array(found["nmse"]) / 10))) == pytest.approx(score, abs=1e-4)
    parts = np.array(found["outputs"])
    errors = np.abs(parts[:, 0] + 1j * parts[:, 1] - mine) ** 2
    assert 10 * np.log10(errors.sum((1, 2)) / (np.abs(mine) ** 2).sum((1, 2))) == pytest.approx(found["nmse"], abs=1e-3)
    assert net.encode(torch.zeros(1, 2, 4, 8)).shape == (1, 16, 1, 1)
    np.savez(tmp_path / "turned.npz", inputs=mine.transpose(0, 2, 1))
    status, _, err = command("predict", run, tmp_path / "turned.npz")
    assert (status, err.count("\n")) == (2, 1)
    assert "holds channels (2, 8, 4), the network takes (2, 4, 8)" in err


def test_a_task_given_as_an_object_and_tensors_train_too(text):
    recipe = attar.recipe.read_recipe(data={"name": "text", "root": str(text), "block_size": 8})
    task = attar.create_task("language")
    splits = task.load(recipe)
    keys = {**language(text), "data": splits, "task": task, "alone": "skip", "epochs": 1}
    folder = text.parent / "objects"
    summary = attar.distill(**keys, out=str(folder), console=QUIET)
    assert summary.runs[0]["student"].scores["perplexity"] > 1
    with pytest.raises(attar.AttarError, match="was an object in Python"):
        attar.evaluate(folder)


def test_a_run_teaches_where_the_data_have_its_tokenizer(runs, text, tmp_path):
    from attar.experiments.launch import prepare

    run = runs("language").folder
    keys = {**language(text), "teacher": str(run)}
    job = prepare(attar.recipe.read_recipe(**keys))
    options = {"n_layer": 1, "n_embd": 8, "n_head": 1, "n_positions": 16}
    assert (job.recipe.teacher.name, job.recipe.teacher.options) == ("hf-config/gpt2", options)
    kept = load_file(run / "student.safetensors")
    assert all(torch.equal(job.teachers[0].state_dict()[key], value) for key, value in kept.items())
    for name in ("student.safetensors", "student.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    card = json.loads((tmp_path / "student.json").read_text())
    assert card["tokenizer_digest"] == "bytes"
    card |= {"tokenizer": "other", "tokenizer_digest": "0123"}
    (tmp_path / "student.json").write_text(json.dumps(card))
    for teacher in (
        str(tmp_path / "student.safetensors"),
        {**keys["student"], "weights": str(tmp_path / "student.safetensors")},
    ):
        with pytest.raises(attar.AttarError, match=r"another tokenizer than the data \(bytes\).*data.tokenizer=other"):
            attar.distill(**{**keys, "teacher": teacher}, out=str(tmp_path / "run"), console=QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["language", "density"])
def test_the_student_alone_is_read_from_an_earlier_run_of_this_network(runs, recipes, kind, tmp_path):
    from attar.experiments.launch import prepare

    run, keys = runs(kind), recipes[kind]() | {"alone": str(runs(kind).folder)}
    job = prepare(attar.recipe.read_recipe(**keys))
    assert job.earlier[0].scores == run.runs[0]["alone"].scores
    option = {"language": "n_embd", "density": "divisor"}[kind]
    student = {**keys["student"], "options": {**keys["student"]["options"], option: 16}}
    with pytest.raises(attar.AttarError, match=f"has {option} (8|64), this run 16; give alone=train"):
        attar.distill(**{**keys, "student": student}, out=str(tmp_path / "run"), console=QUIET)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "language")) for kind in TASKS]
)
def test_a_suite_has_a_table_of_the_primary_measure(recipes, kind, tmp_path):
    keys = recipes[kind]()
    pair = {role: net if isinstance(net := keys[role], dict) else {"name": net} for role in ("teacher", "student")}
    recipe = read_recipe(**{**keys, **pair})
    teacher = Parts(recipe, held_for(recipe)).teachers()[0]
    attar.deploy.save(teacher, tmp_path / "teacher.safetensors")
    pair["teacher"] = {**pair["teacher"], "weights": str(tmp_path / "teacher.safetensors")}
    common = {key: value for key, value in keys.items() if key not in ("teacher", "student", "method", "jobs")}
    suite = {"methods": ["kd"], "pairs": [pair], "recipe": {**common, "epochs": 1}}
    (tmp_path / "suite.yaml").write_text(json.dumps(suite), encoding="utf-8")
    (table,) = read_suite(tmp_path / "suite.yaml", [f"out={tmp_path / 'bench'}", "jobs=1"], QUIET).run()
    measure = attar.create_task(kind).metrics().primary
    assert measure.title in table.columns
    score = json.loads(next((tmp_path / "bench").rglob("results.json")).read_text())["runs"][0]["student"]["scores"]
    assert table.rows[1][2] == measure.text(score[measure.name])


def test_two_runs_of_a_task_are_compared_by_its_measure(runs, recipes, tmp_path):
    keys = {**recipes["density"](), "method": "kd", "epochs": 1}
    other = attar.distill(**keys, out=str(tmp_path / "kd"), console=QUIET)
    found = attar.compare(runs("density").folder, other.folder, out=tmp_path / "both.html")
    assert "MAE" in found.table().columns
    measured = [run.summary.runs[0]["student"].scores["mae"] for run in found.runs]
    assert found.gaps()[0][2].mean == pytest.approx(measured[1] - measured[0])
    assert "The lowest MAE is" in (tmp_path / "both.html").read_text()
