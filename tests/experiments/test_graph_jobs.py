"""Jobs of node classification: scored by nodes, exported for graphs of any size, predicted, shared by nobody."""

import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console

import attar
import graphs
from attar.data.loading.tensor_loader import TensorLoader

QUIET = Console(file=io.StringIO())


@pytest.fixture
def command(request):
    """Runs a command, as the fixture `attar` does, whose name is the package's here."""
    return request.getfixturevalue("attar")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return graphs.write(tmp_path_factory.mktemp("graph") / "mine.npz")


def keys(file, **changes):
    """A recipe's keys: GAT teaches GCN, with averaged weights and dropout."""
    pytest.importorskip("torch_geometric")
    nets = {"teacher": ("pyg/gat", {"hidden": 8, "heads": 2}), "student": ("pyg/gcn", {"hidden": 4})}
    return {
        **{role: {"name": name, "options": options} for role, (name, options) in nets.items()},
        "data": {"name": "graph", "root": str(file)},
        **{"epochs": 3, "batch_size": 1, "precision": "float32", "compile": False, "jobs": 1, "select": "best"},
        "optim": {"name": "adamw", "lr": 0.05, "ema": 0.5},
        "method": "stride",
        **changes,
    }


@pytest.fixture(scope="module")
def run(file, tmp_path_factory):
    return attar.distill(**keys(file), out=str(tmp_path_factory.mktemp("run") / "run"), console=QUIET)


def test_a_run_is_scored_by_its_nodes(run, file):
    scores, net = run.runs[0]["student"].scores, attar.load(run.folder)
    graph = attar.data.sources.graphs.read_graph(file).test
    found, truth = net(**graph.inputs)[0].argmax(1)[15:], graph.labels[0][15:]
    assert scores["accuracy"] == pytest.approx((found == truth).double().mean().item())
    assert scores["count"] == 15
    assert run.score_table().title == "Test set (15 nodes)"
    assert attar.evaluate(run.folder)["accuracy"] == scores["accuracy"]
    page = run.report.read_text()
    assert "Validation accuracy" in page
    assert "ms for one graph" in page
    assert "are in the training set" not in page


def test_two_processes_cannot_share_one_graph(file):
    graph = attar.data.sources.graphs.read_graph(file)
    with pytest.raises(attar.AttarError, match="a batch of 1 samples cannot be shared by 2 processes"):
        TensorLoader(graph.train, 1, share=(0, 2))


@pytest.fixture
def other():
    """A graph of eleven nodes: features as in a file, edges, and the inputs of a network."""
    rng = np.random.default_rng(1)
    features, edges = rng.random((11, 6)).astype(np.float32), rng.integers(11, size=(2, 17))
    edges = np.unique(edges[:, edges[0] != edges[1]], axis=1)
    scaled = torch.from_numpy(features / features.sum(1, keepdims=True))
    return features, edges, {"features": scaled[None], "edge_index": torch.from_numpy(edges)[None]}


def test_predict_names_the_classes_of_another_graphs_nodes(run, other, tmp_path, command):
    features, edges, inputs = other
    logits = attar.load(run.folder)(**inputs)[0]
    np.savez(tmp_path / "other.npz", features=features, edge_index=edges)
    status, out, _ = command("predict", run.folder, tmp_path / "other.npz", "--json")
    found = json.loads(out)[0]
    assert status == 0
    assert found["classes"] == [("red", "green", "blue")[number] for number in logits.argmax(1).tolist()]
    assert found["probabilities"] == pytest.approx(logits.softmax(1).amax(1).tolist(), abs=1e-4)
    (text,) = [one.text for one in attar.predict(run.folder, tmp_path / "other.npz")]
    assert text.splitlines()[:2] == ["11 nodes", f"0  {found['classes'][0]}  {100 * found['probabilities'][0]:.1f}"]
    np.savez(tmp_path / "wide.npz", features=features[:, :5], edge_index=edges)
    status, _, err = command("predict", run.folder, tmp_path / "wide.npz")
    assert (status, err.count("\n")) == (2, 1)
    assert "have 5 features, the network takes 6" in err


@pytest.mark.slow
def test_exported_files_take_any_graph(run, other, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    from attar.deploy.formats.pt2 import open_pt2
    from attar.models.graphs.onnx import open_onnx

    done = attar.export(run.folder, ["safetensors", "pt2", "onnx"], out=tmp_path / "files")
    score = run.runs[0]["student"].scores["accuracy"]
    assert (done.failures, [one.parity.score for one in done.files]) == ({}, [pytest.approx(score)] * 3)
    assert all(one.batch_latency is None for one in done.files)
    inputs = other[2]
    logits = attar.load(run.folder)(**inputs)
    for opened in (open_pt2(tmp_path / "files" / "student.pt2"), open_onnx(tmp_path / "files" / "student.onnx")):
        assert torch.allclose(opened(**inputs), logits, atol=1e-5)
        assert torch.equal(opened(**dict(reversed(inputs.items()))), opened(**inputs))


def test_bad_input_is_one_line_before_anything_is_written(file, tmp_path):
    broken = graphs.write(tmp_path / "broken.npz", edge_index=np.array([[0], [30]]))
    for changes, message in (
        ({"data": {"name": "graph", "root": str(broken)}}, "from node 0 to node 30"),
        ({"batch_size": 2}, "batch_size must be 1 to 1"),
        ({"student": "resnet8"}, "tensors|features|graph"),
        ({"method": "dkd"}, r"expected \(B, K\)|takes no weight"),
        ({"task": {"soft_labels": "some"}}, "unknown soft_labels"),
        ({"data": {"name": "graph", "root": str(file), "normalise": 3}}, "data.normalise must be bool"),
    ):
        with pytest.raises(attar.AttarError, match=message) as error:
            attar.distill(**keys(file, **changes), out=str(tmp_path / "run"), console=QUIET)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run" / "student.safetensors").exists()


def test_the_student_of_a_run_teaches_by_its_folder(run, file, tmp_path):
    further = {"teacher": str(run.folder), "alone": "skip", "epochs": 1, "method": "kd"}
    again = attar.distill(**keys(file, **further), out=str(tmp_path / "run"), console=QUIET)
    assert again.teachers[0].scores["accuracy"] == run.runs[0]["student"].scores["accuracy"]


def test_two_runs_are_compared_by_accuracy(run, file, tmp_path):
    other = attar.distill(**keys(file, method="kd"), out=str(tmp_path / "kd"), console=QUIET)
    found = attar.compare(run.folder, other.folder, out=tmp_path / "both.html")
    measured = [100 * one.summary.runs[0]["student"].scores["accuracy"] for one in found.runs]
    assert found.gaps()[0][2].mean == pytest.approx(measured[1] - measured[0])
    assert "15 test nodes" in (tmp_path / "both.html").read_text()
