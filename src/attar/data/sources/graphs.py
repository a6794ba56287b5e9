"""A graph whose nodes have classes: features, edges, labels and which nodes train, validate and test, in one .npz."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.batch import Address
from attar.data.tensor_set import TensorSet, TensorSplits
from attar.errors import AttarError
from attar.records import read_arrays

ROLES = ("train", "val", "test")
REMEDY = "give a .npz with features, edge_index, labels, train and test (docs/tasks/graph.md)"
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class GraphSplits(TensorSplits):
    """One graph three times: the sets hold the same nodes and edges, and differ in which nodes count."""

    @property
    def network(self) -> dict[str, Any]:
        """What `create_model` needs: classes, features of a node, nodes."""
        nodes, features = self.train.shape
        return {"num_classes": self.num_classes, "in_channels": features, "image_size": nodes}

    def divided(self, val_fraction: float, seed: int, train_size: int | None = None) -> TensorSplits:
        """What one seed keeps apart and trains on, counted in training nodes; see `TensorSplits.divided`."""
        train, val = self.train, self.val
        assert train.weight is not None
        nodes = train.weight[0].nonzero()[:, 0]
        if val is None and val_fraction:
            order = nodes[torch.randperm(len(nodes), generator=Address(seed).generator("split"))]
            count = max(1, round(val_fraction * len(nodes)))
            val, nodes = counting(train, order[:count]), order[count:]
        if train_size is not None:
            if not 1 <= train_size <= len(nodes):
                raise AttarError(f"data.train_size must be 1 to {len(nodes)} nodes, got {train_size}")
            nodes = nodes[torch.randperm(len(nodes), generator=Address(seed).generator("limit"))[:train_size]]
        if not len(nodes):
            raise AttarError("no training node is left; give a smaller data.val_fraction")
        return replace(self, train=counting(train, nodes), val=val)


def counting(graph: TensorSet, nodes: Tensor) -> TensorSet:
    """The same graph with other nodes that count."""
    return replace(graph, weight=torch.zeros(graph.labels.shape).index_fill_(1, nodes, 1.0))


def read_graph(file: Path, normalise: bool = True) -> GraphSplits:
    """The graph of a .npz file.

    Args:
        file: has `features` (N, F), or CSR rows as `indptr`, `indices`, `data` and F as `features`; `edge_index` (2,
            E), each edge in the directions in which it is used; `labels` (N,), -1 where there is none; `train`, `test`
            and optionally `val`, node numbers or a mask (N,); optionally `classes`, their names.
        normalise: scale the absolute features of each node to a sum of 1, as is usual for bags of words.

    Raises:
        AttarError: an array is missing or does not fit, an edge leads to a node that is not there, features hold NaN,
            sets share nodes, or a node that counts has no label.
    """
    arrays = read_arrays(file, REMEDY)
    features, edges, notes = inputs_of(arrays, file, normalise)
    labels, masks = labels_of(arrays, file, len(features)), masks_of(arrays, file, len(features))
    for role, nodes in masks.items():
        if (missing := nodes[labels[nodes] < 0]).numel():
            raise AttarError(
                f"node {int(missing[0])} of {file} is in {role} and has no label; give it one or leave it out"
            )
    names = names_of(arrays, file, int(labels.max()) + 1)
    classes = len(names) or int(labels.max()) + 1
    untaught = sorted({*range(classes)} - {*labels[masks["train"]].tolist()})
    if untaught:
        notes.append(f"no training node of {file.name} has class {untaught[0]}: nothing can be learnt about it")
    graph = TensorSet(
        {"features": features[None], "edge_index": edges[None]},
        # Nodes without a label never count; losses take class numbers only.
        labels.clamp(min=0)[None],
        file.stem,
        outputs=classes,
        classes=names,
        facts={"normalise": normalise},
    )
    sets = {role: counting(graph, nodes) for role, nodes in masks.items()}
    return GraphSplits(sets["train"], sets["test"], sets.get("val"), tuple(notes))


def inputs_of(arrays: Arrays, file: Path, normalise: bool) -> tuple[Tensor, Tensor, list[str]]:
    """(N, F) features, (2, E) edges without loops and duplicates, and what the user should know."""
    features = features_of(arrays, file)
    bad = (~torch.isfinite(features)).any(1).nonzero()
    if len(bad):
        raise AttarError(f"node {int(bad[0])} of {file} has NaN or infinity among its features; repair or remove it")
    if normalise:
        features = features / features.abs().sum(1, keepdim=True).clamp(min=1e-12)
    given = array_of(arrays, "edge_index", file)
    if given.ndim != 2 or given.shape[0] != 2 or given.dtype.kind not in "iu":
        raise AttarError(f"edge_index of {file} is {given.dtype} {given.shape}; expected whole numbers (2, E)")
    edges = torch.from_numpy(given.astype(np.int64))
    outside = ((edges < 0) | (edges >= len(features))).any(0).nonzero()
    if len(outside):
        place = int(outside[0])
        start, end = edges[:, place].tolist()
        raise AttarError(
            f"edge {place} of {file} goes from node {start} to node {end}, and there are nodes 0 to "
            f"{len(features) - 1}; repair or remove it"
        )
    edges = edges[:, edges[0] != edges[1]].unique(dim=1)
    both = edges.shape[1] == torch.cat([edges, edges.flip(0)], 1).unique(dim=1).shape[1]
    one_way = f"edges of {file.name} go one way only where the reverse is not listed; add it if they have no direction"
    return features, edges, [] if both else [one_way]


def features_of(arrays: Arrays, file: Path) -> Tensor:
    """(N, F) in float32, of a full array or of CSR rows."""
    given = array_of(arrays, "features", file)
    if given.dtype.kind not in "biuf":
        raise AttarError(f"features of {file} are {given.dtype}; expected numbers")
    if given.ndim == 2:
        if not given.size:
            raise AttarError(f"features of {file} are empty, {given.shape}; give (N, F)")
        return torch.from_numpy(given.astype(np.float32))
    if given.ndim:
        raise AttarError(f"features of {file} are {given.shape}; expected (N, F), or F beside CSR rows")
    start, columns, values = (array_of(arrays, name, file) for name in ("indptr", "indices", "data"))
    for name, whole in (("indptr", start), ("indices", columns)):
        if whole.dtype.kind not in "iu" or whole.ndim != 1:
            raise AttarError(f"{name} of {file} is {whole.dtype} {whole.shape}; expected whole numbers of CSR rows")
    rows, wide = np.diff(start), int(given)
    fits = len(start) > 1 and start[0] == 0 and (rows >= 0).all() and start[-1] == len(columns) == len(values)
    if not fits or (len(columns) and (columns.min() < 0 or columns.max() >= wide)):
        raise AttarError(f"indptr, indices and data of {file} are no CSR rows of {wide} features; write them again")
    found = torch.zeros(len(rows), wide)
    places = torch.from_numpy(np.repeat(np.arange(len(rows)), rows)), torch.from_numpy(columns.astype(np.int64))
    return found.index_put_(places, torch.from_numpy(values.astype(np.float32)), accumulate=True)


def labels_of(arrays: Arrays, file: Path, nodes: int) -> Tensor:
    """(N,) class numbers, -1 where there is none."""
    given = array_of(arrays, "labels", file)
    if given.shape != (nodes,) or given.dtype.kind not in "iu":
        raise AttarError(f"labels of {file} are {given.dtype} {given.shape}; expected whole numbers ({nodes},)")
    labels = torch.from_numpy(given.astype(np.int64))
    if labels.min() < -1 or labels.max() < 1:
        raise AttarError(
            f"labels of {file} are {int(labels.min())} to {int(labels.max())}; expected classes 0, 1, ..., and -1 for "
            "nodes without one"
        )
    return labels


def masks_of(arrays: Arrays, file: Path, nodes: int) -> dict[str, Tensor]:
    """The numbers of the nodes of each set.

    Raises:
        AttarError: a set is empty, has nodes that are not there, or shares one with another.
    """
    found: dict[str, Tensor] = {}
    for role in ROLES:
        if role == "val" and role not in arrays:
            continue
        given = array_of(arrays, role, file)
        mask = given.dtype.kind == "b"
        if given.ndim != 1 or given.dtype.kind not in "biu" or (mask and len(given) != nodes):
            raise AttarError(
                f"{role} of {file} is {given.dtype} {given.shape}; expected node numbers or a mask ({nodes},)"
            )
        listed = torch.from_numpy(given.nonzero()[0] if mask else given.astype(np.int64))
        numbers, times = listed.unique(return_counts=True)
        if len(numbers) < len(listed):
            twice = int(numbers[times > 1][0])
            raise AttarError(f"{role} of {file} lists node {twice} twice; give each node once, or a mask of booleans")
        if not len(numbers):
            raise AttarError(f"{role} of {file} has no nodes; give it some")
        if numbers[0] < 0 or numbers[-1] >= nodes:
            wrong = int(numbers[0] if numbers[0] < 0 else numbers[-1])
            raise AttarError(f"{role} of {file} holds node {wrong}, and there are nodes 0 to {nodes - 1}; repair it")
        for other, theirs in found.items():
            if len(shared := numbers[torch.isin(numbers, theirs)]):
                raise AttarError(
                    f"{other} and {role} of {file} share {len(shared)} nodes, node {int(shared[0])} first; a node "
                    "belongs to one set"
                )
        found[role] = numbers
    return found


def names_of(arrays: Arrays, file: Path, least: int) -> tuple[str, ...]:
    """The classes' names, where the file has them."""
    if "classes" not in arrays:
        return ()
    names = tuple(map(str, arrays["classes"].tolist())) if arrays["classes"].ndim == 1 else ()
    if len(names) < least:
        raise AttarError(f"classes of {file} names {len(names)}, and its labels go up to {least - 1}; name each")
    return names


def array_of(arrays: Arrays, name: str, file: Path) -> np.ndarray:
    """An array of the file.

    Raises:
        AttarError: it has none of that name.
    """
    if name not in arrays:
        raise AttarError(f"{file} has no array {name!r}; {REMEDY}")
    return arrays[name]
