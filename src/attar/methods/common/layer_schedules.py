"""Schedules by layer: a method's edges between layers weigh something bottom up, one layer after the other."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attar.errors import AttarError, unknown
from attar.knowledge import Transfer, owner
from attar.schedules import ByLayer, read_call

ALL = "all"
KINDS = (ALL, "progressive", "stacked")
# What may follow the name of a layer in the name of a tap.
PARTS = (".attention", ".cls", ".preact")


def by_layer(edges: Sequence[Transfer], output: str, text: str) -> dict[str, ByLayer]:
    """The schedule of every edge, by its key; nothing with "all".

    Edges between layers are those that neither start at the labels nor compare outputs. They belong to the learner's
    layer, and the layers are ordered by the numbers in their names ("stage2", "layer3.attention", "blocks.11"), the
    stem first, "final" and "pooled" last; layers without a number, or with the same, stay in the order of the edges.
    All other edges come after the last layer.

    Args:
        edges: of the method.
        output: the name of networks' outputs in the knowledge.
        text: "all", "progressive", "stacked", or the last two with the epochs of a layer: "stacked(2)".

    Raises:
        AttarError: another text, or a method without edges between layers.

    >>> from torch import nn
    >>> edges = [Transfer(f"teacher.stage{n}", f"student.stage{n}", nn.MSELoss()) for n in (1, 2)]
    >>> edges.append(Transfer("labels", "student.logits", nn.MSELoss()))
    >>> [schedule.layer for schedule in by_layer(edges, "logits", "stacked").values()]
    [0, 1, 2]
    """
    kind, numbers = read_call(str(text))
    if kind not in KINDS:
        raise unknown("layer_schedule", kind or str(text), KINDS)
    if len(numbers) > (kind != ALL) or any(not isinstance(number, int) or number < 1 for number in numbers):
        raise AttarError(f"layer_schedule={text}: write all, progressive, stacked, or stacked(2): whole epochs a layer")
    if kind == ALL:
        return {}
    layers = {
        edge.key: layer_of(edge) for edge in edges if owner(edge.source) != "labels" and not is_between(edge, output)
    }
    if not layers:
        raise AttarError(
            f"layer_schedule={text} orders edges between layers, and this method has none; choose internal, at, "
            "fitnet, or another that compares layers"
        )
    order = sorted(dict.fromkeys(layers.values()), key=depth)  # layers of one depth stay in the order of the edges
    span = int(numbers[0]) if numbers else None
    place = {key: order.index(layer) for key, layer in layers.items()}
    return {edge.key: ByLayer(kind, place.get(edge.key, len(order)), len(order), span) for edge in edges}


def is_between(edge: Transfer, output: str) -> bool:
    """Whether an edge compares the outputs of networks."""
    ends = (edge.source, edge.target)
    return owner(edge.source) != "labels" and all(end.partition(".")[2] == output for end in ends)


def layer_of(edge: Transfer) -> str:
    """The learner's layer, without what of it is compared."""
    tap = edge.target.partition(".")[2]
    return next((tap.removesuffix(part) for part in PARTS if tap.endswith(part)), tap)


def depth(layer: str) -> tuple[float, ...]:
    """How deep a layer stands, by the numbers in its name.

    >>> sorted(["pooled.review", "stage10", "stage2", "stem"], key=depth)
    ['stem', 'stage2', 'stage10', 'pooled.review']
    """
    if layer.partition(".")[0] in ("final", "pooled"):
        return (float("inf"),)
    return tuple(float(number) for number in re.findall(r"\d+", layer))
