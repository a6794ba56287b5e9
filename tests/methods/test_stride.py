"""STRIDE: the equations by value, on graphs and on images."""

import pytest
import torch

import attar
from attar.conformance.cases import NETWORKS
from attar.errors import AttarError
from attar.methods.stride import as_nodes, layer_attention, layer_pairs

T = torch.tensor([[[1.0, 0], [0, 1], [1, 1]]], dtype=torch.float64)
S = torch.tensor([[[1.0, 1], [0, 2]]], dtype=torch.float64)


def test_attention_distances_and_loss_of_the_toy():
    attention = layer_attention(S, T)
    expected = torch.tensor([[0.248255, 0.248255, 0.503490], [0.108383, 0.445808, 0.445808]], dtype=torch.float64)
    assert torch.allclose(attention[0], expected, atol=1e-6)
    torch.testing.assert_close(attention.sum(2), torch.ones(1, 2, dtype=torch.float64))
    distances = [
        [layer_pairs(torch.ones(1, 1, 1), s[None, None, None], t[None, None, None]) for t in T[0]] for s in S[0]
    ]
    assert distances == [[1, 1, 0], [5, 1, 2]]
    assert layer_pairs(attention, S[:, :, None], T[:, :, None]).item() == pytest.approx(1.187926, abs=1e-6)


def test_equal_layers_of_the_teacher_are_attended_alike_whatever_the_projection():
    same = T[:, :1].expand(-1, 3, -1)
    matrix = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for project in (torch.eye(2, dtype=torch.float64), matrix):
        attention = layer_attention(S @ project, same @ project)
        torch.testing.assert_close(attention, torch.full((1, 2, 3), 1 / 3, dtype=torch.float64))
        assert layer_pairs(attention, S[:, :, None], same[:, :, None]).item() == pytest.approx((1 + 5) / 2)


def test_nodes_are_compared_one_by_one_and_averaged():
    rng = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, layers, 7, 4, generator=rng, dtype=torch.float64) for layers in (2, 3))
    attention = torch.rand(2, 2, 3, generator=rng, dtype=torch.float64)
    expected = torch.zeros((), dtype=torch.float64)
    for graph in range(2):
        for i in range(2):
            for j in range(3):
                apart = [(teacher[graph, j, n] - student[graph, i, n]).square().sum() for n in range(7)]
                expected += attention[graph, i, j] * sum(apart) / 7
    torch.testing.assert_close(layer_pairs(attention, student, teacher), expected / 4)


@pytest.mark.parametrize("task", ["graph", "classification"])
def test_the_edge_is_the_equation_of_its_projections(task):
    if task == "graph":
        pytest.importorskip("torch_geometric")
    torch.manual_seed(0)
    teacher, student = NETWORKS[task]()
    # Batch norm could hide a wrong layer; in eval mode the taps are those of the networks alone.
    method = attar.create_method(
        "stride", teacher=teacher, student=student, task=task, width=5, subspace=3, normalise=False
    )
    method = method.double().eval()
    example = attar.create_task(task).example()
    inputs = example.inputs
    inputs = (
        {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
        if task == "graph"
        else (inputs.double()[:, :, :16, :16])
    )
    known = method.run(attar.Batch(inputs, example.labels))
    pairs, each = method.loss, task == "graph"
    assert pairs.each is each
    own, theirs = ([as_nodes(one) for one in known[f"{role}.layers"]] for role in ("student", "teacher"))
    assert own[0].shape[2] == student.stages[0].weight1.shape[0] if each else len(own) == 3
    total = torch.zeros((), dtype=torch.float64)
    for i, one in enumerate(own):
        scores = [
            (pairs.queries[i](one.mean(1)) * pairs.keys[j](other.mean(1))).sum(1) / 5**0.5
            for j, other in enumerate(theirs)
        ]
        attention = torch.stack(scores, 1).softmax(1)
        for j, other in enumerate(theirs):
            nodes = (one, other) if each else (one.mean(1, keepdim=True), other.mean(1, keepdim=True))
            s, t = pairs.subspace(pairs.own[i](nodes[0])), pairs.subspace(pairs.theirs[j](nodes[1]))
            total += (attention[:, j] * (t - s).square().sum(2).mean(1)).mean() / len(own)
    (edge,) = [edge for edge in method.edges if edge.source == "teacher.layers"]
    torch.testing.assert_close(edge(known), total)
    pairs.normalise = True
    assert float(edge(known).detach()) <= 4


def test_the_suite_passes_on_graphs_of_networks_of_different_widths():
    pytest.importorskip("torch_geometric")
    assert len(attar.check_method("stride", task="graph")) == 10


def test_a_width_of_none_is_refused():
    teacher, student = NETWORKS["classification"]()
    with pytest.raises(AttarError, match="width is 0"):
        attar.create_method("stride", teacher=teacher, student=student, width=0)
