"""Node classification: graphs read from files, bad ones refused, losses and scores over the nodes that count."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import graphs
from attar.batch import Address, Batch, Counts
from attar.data.sources.graphs import features_of, masks_of, read_graph
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer, total_loss
from attar.methods import create_method
from attar.metrics import score
from attar.metrics.nodes import NodeMetrics
from attar.models import create_model
from attar.recipe import read_recipe
from attar.tasks import create_task, task_of


def test_a_graph_is_read_three_times_with_other_nodes_that_count(tmp_path):
    recipe = read_recipe(data={"name": "graph", "root": str(graphs.write(tmp_path / "g.npz"))})
    splits = task_of(recipe).load(recipe).divided(0.05, seed=0)
    assert [one.weight.nonzero()[:, 1].tolist() for one in (splits.train, splits.val, splits.test)] == [
        [*range(9)],
        [*range(9, 15)],
        [*range(15, 30)],
    ]
    assert splits.train.inputs["features"] is splits.test.inputs["features"]
    assert splits.network == {"num_classes": 3, "in_channels": 6, "image_size": 30}
    torch.testing.assert_close(splits.train.inputs["features"].sum(2), torch.ones(1, 30))
    assert (splits.train.classes, splits.notes) == (("red", "green", "blue"), ())


def test_masks_csr_rows_loops_and_duplicates_give_the_same_graph(tmp_path):
    held = graphs.arrays()
    rows, columns = held["features"].nonzero()
    mask = np.arange(30) < 9
    changes = {
        "features": np.array(6),
        "indptr": np.concatenate([[0], np.bincount(rows, minlength=30).cumsum()]),
        "indices": columns,
        "data": held["features"][rows, columns].astype(np.float16),
        "train": mask,
        "edge_index": np.concatenate([held["edge_index"], held["edge_index"][:, :5], [[4], [4]]], 1),
    }
    plain, other = (read_graph(graphs.write(tmp_path / f"{n}.npz", **c)) for n, c in enumerate(({}, changes)))
    for name, tensor in plain.train.inputs.items():
        assert torch.equal(tensor, other.train.inputs[name])
    assert torch.equal(plain.train.weight, other.train.weight)


def test_validation_nodes_and_a_smaller_training_set_are_drawn_from_the_training_nodes(tmp_path):
    whole = read_graph(graphs.write(tmp_path / "g.npz", val=None))
    one, again, other = (whole.divided(1 / 3, seed) for seed in (0, 0, 1))
    assert [one.train.weight.sum().item(), one.val.weight.sum().item()] == [6, 3]
    assert torch.equal(one.train.weight + one.val.weight, whole.train.weight)
    assert torch.equal(one.val.weight, again.val.weight)
    assert not torch.equal(one.val.weight, other.val.weight)
    assert whole.divided(0.0, 0, train_size=4).train.weight.sum() == 4
    with pytest.raises(AttarError, match="1 to 9 nodes, got 10"):
        whole.divided(0.0, 0, train_size=10)


nan, labels = graphs.arrays()["features"].copy(), graphs.arrays()["labels"].copy()
nan[7, 2], labels[3] = np.nan, -1
BAD = {
    "an edge to a missing node": ({"edge_index": np.array([[0, 1], [2, 30]])}, "edge 1 .* from node 1 to node 30"),
    "NaN features": ({"features": nan}, "node 7 .* has NaN or infinity among its features"),
    "sets that overlap": ({"val": np.arange(8, 12)}, "train and val .* share 1 nodes, node 8 first"),
    "a training node without a label": ({"labels": labels}, "node 3 .* is in train and has no label"),
    "no labels": ({"labels": None}, "no array 'labels'"),
    "labels of other nodes": ({"labels": np.arange(7)}, r"labels .* int64 \(7,\); expected whole numbers \(30,\)"),
    "one class": ({"labels": np.zeros(30, int)}, "labels .* are 0 to 0"),
    "no edges array": ({"edge_index": None}, "no array 'edge_index'"),
    "edges in rows": ({"edge_index": np.zeros((5, 3), int)}, r"edge_index .* expected whole numbers \(2, E\)"),
    "a set of missing nodes": ({"test": np.array([31])}, "test .* holds node 31, and there are nodes 0 to 29"),
    "an empty set": ({"test": np.zeros(30, bool)}, "test .* has no nodes"),
    "a short mask": ({"test": np.ones(4, bool)}, r"test .* bool \(4,\)"),
    "broken CSR": (
        {"features": np.array(6), "indptr": np.array([0, 1]), "indices": np.array([9]), "data": np.ones(1)},
        "are no CSR rows of 6 features",
    ),
    "too few names": ({"classes": np.array(["red"])}, "classes .* names 1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_graph_is_one_line(kind, tmp_path):
    changes, message = BAD[kind]
    with pytest.raises(AttarError, match=message) as error:
        read_graph(graphs.write(tmp_path / "bad.npz", **changes))
    assert "\n" not in str(error.value)


def test_edges_of_one_way_and_a_class_nobody_learns_are_noted(tmp_path):
    held = graphs.arrays()
    file = graphs.write(tmp_path / "g.npz", edge_index=held["edge_index"][:, :30], train=np.array([0, 1, 3, 4]))
    notes = read_graph(file).notes
    assert [note.split(" of ")[0] for note in notes] == ["edges", "no training node"]


def test_labels_teach_the_nodes_that_count_and_a_teacher_all_of_them():
    rng = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(2, 5, 3, generator=rng, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(3, (2, 5), generator=rng)
    weight = torch.tensor([[1.0, 0, 0, 1, 0], [0, 0, 1, 0, 0]])
    batch = Batch({"features": torch.zeros(2, 5, 1)}, labels, weight=weight)
    known = Knowledge(batch, student=logits, teacher=teacher)
    kept = weight.bool()
    truth = F.cross_entropy(logits[kept], labels[kept])
    torch.testing.assert_close(Transfer("labels", "student.logits", create_task("graph").supervise())(known), truth)
    soft = [F.log_softmax(one / 2, 2) for one in (logits, teacher)]
    each = 4 * (soft[1].exp() * (soft[1] - soft[0])).sum(2)
    for nodes, expected in (("all", each.mean()), ("train", each[kept].mean())):
        loss = create_task("graph", soft_labels=nodes).imitate(2.0)
        torch.testing.assert_close(Transfer("teacher.logits", "student.logits", loss)(known), expected)


def test_parts_of_a_step_have_the_gradients_of_the_whole():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    teacher, labels = torch.randn(3, 5, 3, generator=rng, dtype=torch.float64), torch.randint(3, (3, 5), generator=rng)
    weight = (torch.rand(3, 5, generator=rng) < 0.4).double()
    task = create_task("graph")
    edges = [
        Transfer("labels", "student.logits", task.supervise()),
        Transfer("teacher.logits", "student.logits", task.imitate(2.0)),
    ]
    whole = Batch({"features": torch.zeros(3, 5, 1)}, labels, weight=weight)

    def gradient(batches):
        losses = [
            total_loss(Knowledge(one, student=logits[rows], teacher=teacher[rows]), edges) for rows, one in batches
        ]
        (found,) = torch.autograd.grad(sum(one.total for one in losses) / len(losses), logits)
        return found

    parts = [slice(0, 2), slice(2, 3)]
    counts = Counts(3, 3, float(weight.sum()), 2)
    expected = gradient([(slice(None), whole)])
    torch.testing.assert_close(gradient([(rows, replace(whole.rows(rows), counts=counts)) for rows in parts]), expected)


def test_scores_are_those_of_scikit_learn_over_the_nodes_that_count():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(2, 40, 5, generator=rng), torch.randint(4, (2, 40), generator=rng)
    weight = (torch.rand(2, 40, generator=rng) < 0.5).float()
    batch = Batch({"logits": logits}, labels, weight=weight)
    found = NodeMetrics()
    for row in range(2):
        part = batch.rows(slice(row, row + 1))
        found.update(logits[row : row + 1], part, logits[row : row + 1])
    kept = weight.bool()
    truth, predicted = labels[kept].numpy(), logits.argmax(2)[kept].numpy()
    scores = found.compute()
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert scores["f1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    assert scores["nll"] == pytest.approx(F.cross_entropy(logits[kept], labels[kept]).item(), rel=1e-5)
    assert (scores["agreement"], scores["kl"]) == (1, pytest.approx(0, abs=1e-9))
    assert found.record(2)["count"] == len(truth)

    class Same(torch.nn.Module):
        def forward(self, logits):
            return logits

    assert score(Same(), [batch], NodeMetrics()) == pytest.approx({k: scores[k] for k in ("accuracy", "f1", "nll")})


def test_an_unknown_choice_of_nodes_is_refused():
    with pytest.raises(AttarError, match="did you mean 'train'"):
        create_task("graph", soft_labels="trains")


def test_the_published_graphs_have_their_splits(attar_data):
    sizes = {"cora": (2708, 1433, 7, 140), "citeseer": (3327, 3703, 6, 120)}
    for name, (nodes, features, classes, train) in sizes.items():
        splits = read_graph(attar_data / "graphs" / f"{name}.npz")
        assert splits.network == {"num_classes": classes, "in_channels": features, "image_size": nodes}
        counts = [int(one.weight.sum()) for one in (splits.train, splits.val, splits.test)]
        assert (counts, splits.notes) == ([train, 500, 1000], ())


def test_the_same_seed_gives_the_same_example():
    one, other = create_task("graph").example(), create_task("graph").example()
    assert torch.equal(one.inputs["edge_index"], other.inputs["edge_index"])
    assert one.address == Address()


def test_the_angles_of_too_many_nodes_are_refused_and_can_be_left_out():
    rng = torch.Generator().manual_seed(0)
    batch = Batch({"features": torch.zeros(1, 1025, 1)}, torch.zeros(1, 1025, dtype=torch.int64))
    points = torch.randn(1025, 2, generator=rng)
    teacher, student = (create_model("pyg/gcn", 3, 8, 12, hidden=4) for _ in range(2))
    for angle in (50.0, 0.0):
        edges = create_method("rkd", teacher=teacher, student=student, task="graph", angle=angle).edges
        known = Knowledge(batch).add("teacher.pooled", points).add("student.pooled", points)
        relations = [edge for edge in edges if edge.source == "teacher.pooled"]
        if not angle:
            assert [edge(known).item() for edge in relations] == [0]
            continue
        with pytest.raises(AttarError, match=r"1,025 samples are 1 billion numbers a step.*method.angle=0"):
            [edge(known) for edge in relations]


def test_a_mask_of_numbers_and_rows_of_floats_are_one_line(tmp_path):
    file = tmp_path / "graph.npz"
    with pytest.raises(AttarError, match=r"train of .* lists node 0 twice; give each node once, or a mask of booleans"):
        masks_of({"train": np.array([1, 1, 0, 0, 0]), "test": np.array([4])}, file, 5)
    rows = {"features": np.array(3), "indices": np.array([0]), "data": np.array([1.0])}
    with pytest.raises(AttarError, match=r"indptr of .* is float64 .*; expected whole numbers"):
        features_of({**rows, "indptr": np.array([0.0, 1.0])}, file)
