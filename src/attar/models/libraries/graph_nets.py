"""Networks on the nodes of a graph, from the layers of torch_geometric, a layer a stage."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Inputs
from attar.errors import AttarError, unknown
from attar.extras import require
from attar.models.libraries.names import GRAPHS
from attar.models.registry import BUILDERS, Spec
from attar.models.surgery.staged import Layout, Staged
from attar.registry import check_types


class Surroundings(NamedTuple):
    """What every layer needs besides the nodes: the edges (2, E) of all graphs of a batch, and the stem's rows."""

    edges: Tensor
    first: Tensor


class GraphNet(Staged):
    """Layers of torch_geometric in stages: features (B, N, F) and edges (B, 2, E) of B graphs to logits (B, N, K).

    A stage is dropout, a layer and an activation; dropout and a linear layer classify each node of the last. GCN and
    GraphSAGE (`linear_end`) have neither an activation after the last layer nor dropout before the linear one: their
    last two matrices are one in the papers. Taps are maps (B, D, 1, N), a node a position, so that methods of maps run
    on them; "pooled" has a row for each node (B * N, D). An edge goes from the node in its first row to the one in its
    second.

    Args:
        layers: convolutions of torch_geometric.
        sizes: how many features a node has, how wide the last layer is, how many classes there are.
        dropout: its probability.
        entry: a layer before the first stage, whose output every stage sees too (GCNII); None: there is none.
        loops: whether every node gets an edge to itself.
        activation: of every layer.
        linear_end: whether nothing stands between the last layer and the linear one.
    """

    # What an exported file leaves open besides the number of graphs.
    open_sizes: ClassVar = {"features": (1,), "edge_index": (2,)}

    def __init__(
        self,
        layers: Sequence[nn.Module],
        sizes: tuple[int, int, int],
        dropout: float,
        entry: nn.Module | None = None,
        loops: bool = True,
        activation: Callable[[Tensor], Tensor] = F.relu,
        linear_end: bool = False,
    ) -> None:
        names = tuple(f"stage{number}" for number in range(1, len(layers) + 1))
        super().__init__(Layout(("entry",) if entry else (), names, ("linear",)))
        self.features_in, width, classes = sizes
        self.dropout, self.loops, self.activation, self.linear_end = dropout, loops, activation, linear_end
        self.residual = entry is not None
        if entry is not None:
            self.entry = entry
        for name, layer in zip(names, layers, strict=True):
            self.add_module(name, layer)
        self.linear = nn.Linear(width, classes)

    def forward(self, features: Tensor, edge_index: Tensor) -> Tensor:  # type: ignore[override]
        return self.features({"features": features, "edge_index": edge_index}).logits

    def stem(self, images: Inputs) -> Tensor:
        if not isinstance(images, dict):
            raise AttarError("a graph network takes features and edge_index by name; pass it batch.inputs")
        features = images["features"]
        if features.ndim != 3 or features.shape[2] != self.features_in:
            raise AttarError(
                f"the graph's features are {tuple(features.shape)}, the network takes (B, N, {self.features_in})"
            )
        if not self.residual:
            return features.mT[:, :, None]
        x = self.activation(self.entry(self.dropped(features.flatten(0, 1))))
        return as_nodes(x, features.shape[0])

    def context(self, inputs: Inputs, x: Tensor) -> Surroundings:
        """The edges of all graphs, numbered through, and the stem's output."""
        assert isinstance(inputs, dict)
        graphs, nodes = x.shape[0], x.shape[3]
        start = nodes * torch.arange(graphs, device=x.device)
        edges = (inputs["edge_index"] + start[:, None, None]).transpose(0, 1).flatten(1)
        if self.loops:
            own = torch.arange(graphs * nodes, device=x.device)
            edges = torch.cat([edges, own.expand(2, -1)], 1)
        return Surroundings(edges, as_rows(x))

    def blank(self, batch: int) -> Inputs:
        like = self.linear.weight
        nodes = self.input_shape[0] if self.input_shape else 1
        features = like.new_zeros(batch, nodes, self.features_in)
        return {"features": features, "edge_index": torch.zeros(batch, 2, 1, dtype=torch.int64, device=like.device)}

    def run_stage(self, index: int, x: Tensor, context: Any = None) -> tuple[Tensor, Tensor]:
        if context is None:
            raise AttarError(
                "the layers of a graph network need the graph's edges, which this method does not pass on; choose "
                "another method: docs/tasks/index.md lists those that run on graphs"
            )
        layer, given = getattr(self, self.layout.stages[index]), self.dropped(as_rows(x))
        rows = layer(given, context.first, context.edges) if self.residual else layer(given, context.edges)
        before = as_nodes(rows, x.shape[0])
        last = index == len(self.layout.stages) - 1
        return (before if last and self.linear_end else self.activation(before)), before

    def average(self, x: Tensor) -> Tensor:
        """A row for each node (B * N, D), as the classifier sees them."""
        return as_rows(x)

    def output(self, final: Tensor, pooled: Tensor) -> Tensor:
        rows = pooled if self.linear_end else self.dropped(pooled)
        return self.linear(rows).unflatten(0, (final.shape[0], final.shape[3]))

    def dropped(self, x: Tensor) -> Tensor:
        """With dropout in training."""
        if not self.training or not self.dropout:
            return x
        return dropout_of_bags(x, self.dropout) if x.shape[1] == self.features_in else F.dropout(x, self.dropout)

    def initialise(self) -> None:
        """The layers draw themselves as torch_geometric and torch do."""


def dropout_of_bags(x: Tensor, probability: float) -> Tensor:
    """Dropout of features that are mostly 0, as bags of words are: on the CPU only the others are drawn.

    >>> dropped = dropout_of_bags(torch.eye(64), 0.5)
    >>> sorted(set(dropped.flatten().tolist()))
    [0.0, 2.0]
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, probability)  # finding them would wait for the device
    flat = x.reshape(-1)
    kept = flat.nonzero()[:, 0]
    return torch.zeros_like(flat).index_copy(0, kept, F.dropout(flat[kept], probability)).view_as(x)


def as_rows(x: Tensor) -> Tensor:
    """A map (B, D, 1, N) as rows (B * N, D)."""
    return x.squeeze(2).mT.flatten(0, 1)


def as_nodes(rows: Tensor, graphs: int) -> Tensor:
    """Rows (B * N, D) as a map (B, D, 1, N).

    >>> as_nodes(torch.zeros(6, 4), 2).shape
    torch.Size([2, 4, 1, 3])
    """
    return rows.unflatten(0, (graphs, -1)).mT[:, :, None]


def convolutions() -> ModuleType:
    """The layers of torch_geometric.

    Raises:
        AttarError: it is not installed.
    """
    with warnings.catch_warnings():
        # Its import scripts modules, which recent versions of torch call deprecated.
        warnings.simplefilter("ignore")
        return require("torch_geometric.nn", "a network on graphs", "graph")


def gcn(features: int, classes: int, hidden: int = 16, layers: int = 2, dropout: float = 0.5) -> GraphNet:
    """Graph convolutional network (Kipf and Welling, ICLR 2017)."""
    of = convolutions()
    widths = [features, *[hidden] * layers]
    made = [of.GCNConv(one, hidden, add_self_loops=False) for one in widths[:-1]]
    return GraphNet(made, (features, hidden, classes), dropout, linear_end=True)


def sage(features: int, classes: int, hidden: int = 16, layers: int = 2, dropout: float = 0.5) -> GraphNet:
    """GraphSAGE with the mean of the neighbours (Hamilton et al., NeurIPS 2017)."""
    of = convolutions()
    widths = [features, *[hidden] * layers]
    made = [of.SAGEConv(one, hidden) for one in widths[:-1]]
    return GraphNet(made, (features, hidden, classes), dropout, loops=False, linear_end=True)


def gat(
    features: int, classes: int, hidden: int = 64, layers: int = 2, dropout: float = 0.6, heads: int = 8
) -> GraphNet:
    """Graph attention network (Velickovic et al., ICLR 2018); heads share `hidden`, attention is dropped too."""
    if hidden % heads:
        raise AttarError(f"gat: hidden={hidden} does not divide into {heads} heads; give a multiple")
    of = convolutions()
    widths = [features, *[hidden] * layers]
    made = [of.GATConv(one, hidden // heads, heads, dropout=dropout, add_self_loops=False) for one in widths[:-1]]
    return GraphNet(made, (features, hidden, classes), dropout, activation=F.elu)


def gcnii(
    features: int,
    classes: int,
    hidden: int = 64,
    layers: int = 64,
    dropout: float = 0.6,
    alpha: float = 0.1,
    theta: float = 0.5,
) -> GraphNet:
    """GCNII (Chen et al., ICML 2020): every layer sees the first's nodes (alpha) and nears the identity (theta)."""
    of = convolutions()
    made = [of.GCN2Conv(hidden, alpha, theta, number, add_self_loops=False) for number in range(1, layers + 1)]
    return GraphNet(made, (features, hidden, classes), dropout, entry=nn.Linear(features, hidden))


FAMILIES: dict[str, Callable[..., GraphNet]] = {"gcn": gcn, "sage": sage, "gat": gat, "gcnii": gcnii}


def create(name: str, classes: int, features: int, nodes: int, options: Mapping[str, Any]) -> GraphNet:
    """A newly initialised network by the name of its family.

    Args:
        name: "gcn", "sage", "gat" or "gcnii".
        classes: how many classes nodes have.
        features: how many features a node has.
        nodes: how many nodes the graph has; any other number runs too.
        options: hidden, layers, dropout; heads of gat, alpha and theta of gcnii.

    Raises:
        AttarError: an unknown family or option, a size below 1, or torch_geometric is missing.
    """
    if name not in FAMILIES:
        raise unknown("network", GRAPHS + name, [GRAPHS + one for one in FAMILIES])
    make = FAMILIES[name]
    known = [one for one in inspect.signature(make).parameters if one not in ("features", "classes")]
    for option, value in options.items():
        if option not in known:
            raise unknown(f"option of {GRAPHS}{name}", option, known)
        if option in ("hidden", "layers", "heads") and isinstance(value, int) and value < 1:
            raise AttarError(f"{GRAPHS}{name}: {option} is {value}; give 1 or more")
    check_types(f"network {GRAPHS}{name}", make, dict(options))
    net = make(features, classes, **options)
    net.input_shape = (nodes, features)  # type: ignore[assignment]
    net.spec = {
        "kind": "graph",
        "name": GRAPHS + name,
        "num_classes": classes,
        "in_channels": features,
        "image_size": nodes,
        **options,
    }
    return net


def _rebuilt(spec: Spec) -> nn.Module:
    options = dict(spec)
    name, *sizes = (options.pop(key) for key in ("name", "num_classes", "in_channels", "image_size"))
    return create(name.removeprefix(GRAPHS), sizes[0], sizes[1], sizes[2], options)


BUILDERS["graph"] = _rebuilt
