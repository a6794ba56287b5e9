"""Options that the edges of any method have: weights, schedules by layer, and changes to logits before they compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from attar.errors import AttarError, unknown
from attar.knowledge import Transfer
from attar.losses import EntropyWeighted, NormalisedTemperature, Standardised
from attar.methods.common.layer_schedules import ALL, by_layer, is_between
from attar.methods.common.learnt_temperature import LearntTemperature
from attar.schedules import WeightSchedule, read_call, read_weight

Weights = Mapping[str, float | str | WeightSchedule]
LogitEdges = str | Mapping[str, str]


@dataclass(frozen=True)
class Wrapper:
    """What may be done to an edge between logits.

    Attributes:
        wrap: wrap(loss, *numbers) gives the loss that takes its place.
        takes: what the numbers are, for messages.
        given: further knowledge that the new loss needs, after the edge's own.
    """

    wrap: Callable[..., nn.Module]
    takes: str = ""
    given: tuple[str, ...] = ()


WRAPPERS = {
    "standardised": Wrapper(Standardised),
    "normalised": Wrapper(NormalisedTemperature),
    "learnt": Wrapper(LearntTemperature, "start, span, loops", ("epoch",)),
    "entropy": Wrapper(EntropyWeighted, "temperature"),
}


class EdgeOptions(nn.Module):
    """Changes to the edges of one method; learnt temperatures are its parameters.

    Args:
        edges: the method's own, to find names and losses in.
        output: the name of networks' outputs in the knowledge, as the task calls it.
        weights: weights by the keys of edges: numbers, schedules, or texts such as "linear(0, 1, 20)".
        logit_edges: "standardised", "normalised", "learnt", "learnt(1, 20, 10)", "entropy" or "entropy(3)", for every
            edge between logits; or such texts by the keys of edges.
        layer_schedule: when the edges of each layer weigh something: "all", "progressive" or "stacked", the last two
            also with the epochs of a layer, "stacked(2)"; see `attar.methods.common.layer_schedules`.

    Raises:
        AttarError: there is no such edge, schedule or wrapper, or the edge's loss does not go with it.
    """

    def __init__(
        self,
        edges: Sequence[Transfer],
        output: str,
        weights: Weights | None = None,
        logit_edges: LogitEdges | None = None,
        layer_schedule: str = ALL,
    ) -> None:
        super().__init__()
        keys = [edge.key for edge in edges]
        self.layers = by_layer(edges, output, layer_schedule)
        given = by_key("weights", weights, "WEIGHT")
        self.weights = {known(key, keys, "weights"): read_weight(weight) for key, weight in given.items()}
        self.losses, self.given = nn.ModuleList(), dict[str, tuple[str, ...]]()
        between = [edge for edge in edges if is_between(edge, output)]
        if isinstance(logit_edges, str):
            texts = dict.fromkeys((edge.key for edge in between), logit_edges)
            if not between:
                raise AttarError(
                    f"logit_edges={logit_edges}: no edge joins the {output} of two networks ({listed(keys)})"
                )
        else:
            texts = by_key("logit_edges", logit_edges, "standardised")
        for key in texts:
            known(key, [edge.key for edge in between], "logit_edges")
        for edge in between:
            if edge.key in texts:
                wrapper, loss = wrapped(edge, texts[edge.key])
                self.given[edge.key] = (*edge.given, *wrapper.given)
                self.losses.append(loss)

    def applied(self, edges: Sequence[Transfer]) -> tuple[Transfer, ...]:
        """The edges with their changes."""
        losses = dict(zip(self.given, self.losses, strict=True))
        return tuple(self._changed(edge, losses) for edge in edges)

    def _changed(self, edge: Transfer, losses: Mapping[str, nn.Module]) -> Transfer:
        changes: dict[str, Any] = {}
        if edge.key in self.weights:
            changes["weight"] = self.weights[edge.key]
        if edge.key in self.layers:
            changes["weight"] = replace(self.layers[edge.key], weight=changes.get("weight", edge.weight))
        if edge.key in losses:
            changes |= {"loss": losses[edge.key], "given": self.given[edge.key]}
        return replace(edge, **changes) if changes else edge


def wrapped(edge: Transfer, text: str) -> tuple[Wrapper, nn.Module]:
    """A wrapper by its text, and the loss it makes of an edge's.

    Raises:
        AttarError: there is none, or the loss does not go with it.
    """
    name, numbers = read_call(str(text))
    if name not in WRAPPERS:
        raise unknown("value of logit_edges:", name or str(text), WRAPPERS)
    wrapper = WRAPPERS[name]
    try:
        return wrapper, wrapper.wrap(edge.loss, *numbers)
    except TypeError:
        takes = f"({wrapper.takes})" if wrapper.takes else "no numbers"
        raise AttarError(f"logit_edges: {name} takes {takes}, got {text!r}") from None
    except AttarError as error:
        raise AttarError(f"edge {edge.key!r} cannot be {name}: {error}") from None


def by_key(option: str, given: object, example: str) -> dict[str, Any]:
    """Values by the keys of edges; a key that was taken apart at its dots is put together again.

    Args:
        option: its name, for the message.
        given: a mapping, or nothing.
        example: of a value, for the message.

    Raises:
        AttarError: it is no mapping.

    >>> by_key("weights", {"labels->student": {"logits": 2.0}}, "2")
    {'labels->student.logits': 2.0}
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise AttarError(f"{option}: expected values by the keys of edges, {{KEY: {example}}}, got {given!r}")
    found: dict[str, Any] = {}
    for key, value in given.items():
        inner = by_key(option, value, example) if isinstance(value, Mapping) else None
        found |= {str(key): value} if inner is None else {f"{key}.{rest}": one for rest, one in inner.items()}
    return found


def known(key: str, keys: Sequence[str], option: str) -> str:
    """The key of an edge that there is.

    Raises:
        AttarError: there is none; the message lists the edges.
    """
    if key not in keys:
        raise AttarError(f"{option}: no edge {key!r}; the edges are {listed(keys)}")
    return key


def listed(keys: Sequence[str]) -> str:
    """Keys of edges in a message."""
    return ", ".join(repr(key) for key in keys) or "none"
