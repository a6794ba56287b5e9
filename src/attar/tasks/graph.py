"""Node classification: networks see a whole graph and put out the logits of each of its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from attar.batch import Address, Batch
from attar.data.sources.graphs import REMEDY, inputs_of, read_graph
from attar.data.tensor_set import TensorSplits
from attar.errors import AttarError, unknown
from attar.losses import CrossEntropy, KLDivergence, PerToken
from attar.metrics.base import Metrics
from attar.metrics.nodes import NodeMetrics
from attar.recipe import Recipe
from attar.records import read_arrays
from attar.tasks.options import check_options
from attar.tasks.predictions import Request, SamplePrediction, register_predictor, run
from attar.tasks.registry import register_task

# On which nodes another network's outputs teach.
SOFT_LABELS = ("all", "train")


@register_task("graph", data=("graph",))
@dataclass
class Graph:
    """Logits (B, N, K) of the N nodes of each graph; labels (B, N), `Batch.weight` says which nodes count.

    Training, validation and test see the same nodes and edges (transductive): their labels are what is apart.

    Args:
        output: what the networks' outputs are called in the knowledge.
        soft_labels: where one network imitates another: on "all" nodes, for a teacher has an output for every one
            (usual for graphs; ours as a default), or on the nodes of "train" alone.

    Raises:
        AttarError: soft_labels is neither.

    >>> Graph().imitate(4.0).everywhere
    True
    """

    output: str = "logits"
    soft_labels: str = "all"

    def __post_init__(self) -> None:
        if self.soft_labels not in SOFT_LABELS:
            raise unknown("soft_labels", self.soft_labels, SOFT_LABELS)

    def supervise(self) -> PerToken:
        """Cross-entropy with the labels, averaged over the nodes that count."""
        return PerToken(CrossEntropy())

    def imitate(self, temperature: float) -> PerToken:
        """T^2 KL(teacher || student) of the softened distributions, averaged over the nodes of `soft_labels`."""
        return PerToken(KLDivergence(temperature), everywhere=self.soft_labels == "all")

    def metrics(self) -> Metrics:
        """Accuracy and macro F1 of the nodes that count; accuracy decides."""
        return NodeMetrics()

    def example(self) -> Batch:
        """Two graphs of twelve nodes with eight features, three classes and twenty edges."""
        generator = Address().generator("example")
        inputs = {
            "features": torch.rand(2, 12, 8, generator=generator),
            "edge_index": torch.randint(12, (2, 2, 20), generator=generator),
        }
        labels = torch.randint(3, (2, 12), generator=generator)
        return Batch(inputs, labels, torch.arange(2), output=self.output)

    def load(self, recipe: Recipe) -> TensorSplits:
        """The graph of the file `data.root`, a .npz; `data.normalise` scales each node's features to a sum of 1."""
        options = check_options(recipe, normalise=True)
        if recipe.data.root is None:
            raise AttarError("data=graph needs data.root=FILE.npz with features, edge_index, labels, train and test")
        return read_graph(Path(recipe.data.root).expanduser(), **options)


@register_predictor("graph", arrays=True)
def nodes_of(request: Request) -> SamplePrediction:
    """The class of every node of a graph, with its probability; labels and sets in the file are not read.

    Raises:
        AttarError: the file is damaged, or its features are not as many as the network takes.
    """
    net, card, file = request.net, request.card, request.file
    features, edges, _ = inputs_of(read_arrays(file, REMEDY), file, bool(card["normalise"]))
    if features.shape[1] != card["input_shape"][1]:
        raise AttarError(
            f"nodes of {file} have {features.shape[1]} features, the network takes {card['input_shape'][1]}"
        )
    probabilities, classes = run(net, {"features": features[None], "edge_index": edges[None]})[0].softmax(1).max(1)
    names = card["classes"] or [str(number) for number in range(card["outputs"])]
    found = [names[number] for number in classes.tolist()]
    sure = [round(one, 4) for one in probabilities.tolist()]
    lines = [f"{number}  {name}  {100 * p:.1f}" for number, (name, p) in enumerate(zip(found, sure, strict=True))]
    return SamplePrediction(file, "\n".join([f"{len(found)} nodes", *lines]), {"classes": found, "probabilities": sure})
