"""Networks on graphs: staged, the same on one graph and on several, and each family what its paper says."""

import copy

import pytest
import torch

import attar
from attar.errors import AttarError
from attar.models import build, list_models, observe, tap_shapes
from attar.models.libraries.graph_nets import dropout_of_bags

pytest.importorskip("torch_geometric")
FAMILIES = ("gat", "gcn", "gcnii", "sage")


def made(name, **options):
    options = {"hidden": 4, "layers": 2, "dropout": 0.0, **({"heads": 2} if name == "gat" else {}), **options}
    net = attar.create_model(f"pyg/{name}", num_classes=3, in_channels=8, image_size=12, **options)
    return net.double().eval()


@pytest.fixture
def inputs():
    return {name: one.double() if one.is_floating_point() else one for name, one in graph().items()}


def graph():
    return attar.create_task("graph").example().inputs


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_of_graphs_is_each_graph_alone(name, inputs):
    net = made(name)
    whole = net(**inputs)
    assert whole.shape == (2, 12, 3)
    alone = [net(**{key: one[row : row + 1] for key, one in inputs.items()}) for row in range(2)]
    assert torch.allclose(torch.cat(alone), whole, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_taps_are_maps_of_nodes_and_the_rest_of_the_network_goes_on_from_them(name, inputs):
    net = made(name)
    output = observe(net, inputs, ["stem", "stage1", "stage2.preact", "stage2", "pooled"])
    assert output.tap("stage1").shape == (2, 4, 1, 12)
    assert output.tap("pooled").shape == (24, 4)
    context = net.context(inputs, output.tap("stem"))
    assert torch.equal(net.resume(output.tap("stage1"), 1, context=context).logits, output.logits)
    activation = (lambda x: x) if net.linear_end else net.activation
    assert torch.equal(activation(output.tap("stage2.preact")), output.tap("stage2"))
    assert tap_shapes(net, ["stage1"]) == {"stage1": (4, 1, 12)}
    with pytest.raises(AttarError, match="need the graph's edges"):
        net.resume(output.tap("stage1"), 1)


def propagation(edges, nodes=12):
    """D^-1/2 (A + I) D^-1/2 of one graph, a row for each receiving node."""
    matrix = torch.eye(nodes, dtype=torch.float64)
    for start, end in edges.T.tolist():
        matrix[end, start] += 1
    scale = matrix.sum(1).rsqrt()
    return scale[:, None] * matrix * scale


def test_gcn_and_gcnii_are_their_equations(inputs):
    features, edges = inputs["features"][:1], inputs["edge_index"][:1]
    spread = propagation(edges[0])
    gcn = made("gcn")
    x = features[0]
    one, two = gcn.stages
    x = (spread @ x @ one.lin.weight.T + one.bias).relu()
    torch.testing.assert_close(gcn(features, edges)[0], gcn.linear(spread @ x @ two.lin.weight.T + two.bias))
    net = made("gcnii", layers=3, alpha=0.2, theta=0.7)
    x = first = net.entry(features[0]).relu()
    for number, layer in enumerate(net.stages, 1):
        beta = torch.log(torch.tensor(0.7, dtype=torch.float64) / number + 1)
        mixed = 0.8 * (spread @ x) + 0.2 * first
        x = ((1 - beta) * mixed + beta * mixed @ layer.weight1).relu()
    torch.testing.assert_close(net(features, edges)[0], net.linear(x))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_is_rebuilt_from_its_spec_and_begun_anew(name, inputs):
    net = made(name)
    again = build(net.spec).double().eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(**inputs), net(**inputs))
    begun = attar.models.surgery.reinitialise.fresh_copy(copy.deepcopy(net))
    assert not torch.equal(begun.linear.weight, net.linear.weight)


def test_features_of_bags_are_dropped_where_they_are_not_zero():
    x = (torch.rand(200, 50, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    torch.manual_seed(0)
    found = dropout_of_bags(x, 0.4)
    assert sorted({*found[x > 0].tolist()}) == pytest.approx([0, 1 / 0.6])
    assert found[x == 0].abs().sum() == 0
    assert (found[x > 0] > 0).float().mean() == pytest.approx(0.6, abs=0.05)


def test_names_options_and_other_graphs_are_checked(inputs):
    assert list_models("pyg/*") == [f"pyg/{name}" for name in FAMILIES]
    for name, options, message in (
        ("gcnn", {}, "did you mean 'pyg/gcn"),
        ("gcn", {"hiden": 3}, "did you mean 'hidden'"),
        ("gcn", {"layers": 0}, "layers is 0"),
        ("gat", {"hidden": 6, "heads": 4}, "does not divide into 4 heads"),
        ("gcn", {"hidden": "wide"}, "hidden must be int"),
    ):
        with pytest.raises(AttarError, match=message):
            attar.create_model(f"pyg/{name}", num_classes=3, in_channels=8, image_size=12, **options)
    with pytest.raises(AttarError, match=r"features are \(2, 12, 5\), the network takes \(B, N, 8\)"):
        made("gcn")(inputs["features"][:, :, :5], inputs["edge_index"])
