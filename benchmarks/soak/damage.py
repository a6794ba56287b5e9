"""What can happen to a file of a run: lost, cut, bits flipped, or with entries of another type."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from attar.train import checkpoint as checkpoints

Damage = Callable[[Path, random.Random], object]
STRANGE = (None, True, -1, 0, 10**30, 0.5, float("nan"), float("inf"), "", "x", [], [1], {}, {"x": 1}, [[]], "\udce9")


def damages_of(file: str) -> list[str]:
    """What can happen to a file, by its suffix."""
    suffix = Path(file).suffix
    special = {
        ".json": JSON, ".jsonl": JSON, ".yaml": JSON, ".npz": NPZ, ".safetensors": TENSORS, ".pt": CHECKPOINT,
    }  # fmt: skip
    return [*ANY, *special.get(suffix, {})]


def damage(file: Path, how: str, draw: random.Random) -> None:
    """Damage a file."""
    for table in (ANY, JSON, NPZ, TENSORS, CHECKPOINT):
        if how in table:
            table[how](file, draw)


def missing(file: Path, draw: random.Random) -> None:
    file.unlink()


def folder(file: Path, draw: random.Random) -> None:
    file.unlink()
    file.mkdir()


def loop(file: Path, draw: random.Random) -> None:
    file.unlink()
    file.symlink_to(file.name)


def cut(file: Path, draw: random.Random) -> None:
    os.truncate(file, draw.randrange(file.stat().st_size))


def flipped(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(draw.choice([1, 1, 20])):
        # Half of them at the start or the end, where headers are.
        near = draw.randrange(min(len(content), 300))
        content[draw.choice([near, -1 - near, draw.randrange(len(content))])] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def zeroed(file: Path, draw: random.Random) -> None:
    """As after a power cut: a block of zeros."""
    content = bytearray(file.read_bytes())
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice([1, 64, 4096]))
    content[start:end] = bytes(end - start)
    file.write_bytes(content)


def noise(file: Path, draw: random.Random) -> None:
    file.write_bytes(draw.randbytes(draw.choice([1, 100, 5000])))


def latin(file: Path, draw: random.Random) -> None:
    content = file.read_bytes()
    place = draw.randrange(len(content))
    file.write_bytes(content[:place] + "é".encode("latin-1") + content[place:])


ANY: dict[str, Damage] = {
    "missing": missing,
    "a folder": folder,
    "a link to itself": loop,
    "empty": lambda file, draw: file.write_bytes(b""),
    "cut": cut,
    "bits flipped": flipped,
    "zeros": zeroed,
    "noise": noise,
    "a byte that is no UTF-8": latin,
}


def trees(change: Callable[[Any, random.Random], Any]) -> Damage:
    """A damage of JSON, JSON lines or YAML: one node of the tree changed."""

    def apply(file: Path, draw: random.Random) -> None:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".jsonl":
            lines = text.splitlines()
            place = draw.randrange(len(lines))
            lines[place] = json.dumps(change(json.loads(lines[place]), draw))
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        elif file.suffix == ".yaml":
            file.write_text(yaml.safe_dump(change(yaml.safe_load(text), draw)), encoding="utf-8")
        else:
            file.write_text(json.dumps(change(json.loads(text), draw)), encoding="utf-8")

    return apply


def another_type(tree: Any, draw: random.Random) -> Any:
    """Some node, the whole included, of another type."""
    if isinstance(tree, dict | list) and tree and draw.random() < 0.85:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        key = draw.choice(list(keys))
        tree[key] = another_type(tree[key], draw)
        return tree
    return draw.choice(STRANGE)


def without(tree: Any, draw: random.Random) -> Any:
    """Some entry lost."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    if not keys:
        return tree
    key = draw.choice(keys)
    if isinstance(tree[key], dict | list) and tree[key] and draw.random() < 0.6:
        tree[key] = without(tree[key], draw)
    else:
        del tree[key]
    return tree


def more(tree: Any, draw: random.Random) -> Any:
    """Some entry too many."""
    if isinstance(tree, dict) and tree and draw.random() < 0.8:
        key = draw.choice(list(tree))
        tree[key] = more(tree[key], draw)
    elif isinstance(tree, dict):
        tree["surplus"] = 1
    elif isinstance(tree, list):
        tree.append(draw.choice([*tree, *STRANGE]))
    return tree


def nested(file: Path, draw: random.Random) -> None:
    file.write_text("[" * 100_000, encoding="utf-8")


JSON: dict[str, Damage] = {
    "a value of another type": trees(another_type),
    "another value of another type": trees(another_type),
    "an entry lost": trees(without),
    "an entry too many": trees(more),
    "nested without end": nested,
}


def arrays(change: Callable[[np.ndarray, random.Random], np.ndarray]) -> Damage:
    """A damage of an .npz: one of its arrays changed."""

    def apply(file: Path, draw: random.Random) -> None:
        with np.load(file) as held:
            content = dict(held)
        name = draw.choice(sorted(content))
        content[name] = change(content[name], draw)
        np.savez_compressed(file, **content)

    return apply


NPZ: dict[str, Damage] = {
    "an array of another shape": arrays(lambda array, draw: array[: draw.randrange(len(array))]),
    "an array of another rank": arrays(lambda array, draw: array[None] if draw.random() < 0.5 else array.ravel()),
    "an array of another type": arrays(
        lambda array, draw: array.astype(draw.choice(["float64", "int8", "U3", "complex64", "bool"]))
    ),
    "values out of range": arrays(
        lambda array, draw: np.full_like(array, draw.choice([-5, 99, 60000]) if array.dtype.itemsize > 1 else 99)
    ),
    "no arrays": lambda file, draw: np.savez(file),
    "an object": lambda file, draw: np.savez(file, labels=np.array([{}], object)),
}


def tensors(change: Callable[[dict[str, Any], random.Random], Any]) -> Damage:
    """A damage of weights: the state dict changed."""

    def apply(file: Path, draw: random.Random) -> None:
        state = load_file(file)
        change(state, draw)
        save_file(state, file)

    return apply


def renamed(state: dict[str, Any], draw: random.Random) -> None:
    state["other"] = state.pop(draw.choice(sorted(state)))


def reshaped(state: dict[str, Any], draw: random.Random) -> None:
    name = draw.choice(sorted(state))
    state[name] = torch.zeros(draw.choice([(0,), (7,), (2, 3, 4, 5)]))


def retyped(state: dict[str, Any], draw: random.Random) -> None:
    name = draw.choice(sorted(state))
    state[name] = state[name].to(draw.choice([torch.int8, torch.bool, torch.float64]))


TENSORS: dict[str, Damage] = {
    "a tensor of another name": tensors(renamed),
    "a tensor of another shape": tensors(reshaped),
    "a tensor of another type": tensors(retyped),
    "no tensors": tensors(lambda state, draw: state.clear()),
}


def states(file: Path, draw: random.Random) -> None:
    """A checkpoint or a failure with one part of another type, sealed as the whole ones are."""
    state = torch.load(file, weights_only=True)
    sealed = checkpoints.is_whole(file)
    key = draw.choice(sorted(state))
    state[key] = draw.choice([None, 1, "x", [], {}, {"x": 1}, torch.zeros(2), {"x": torch.zeros(1)}])
    torch.save(state, file)
    if sealed:
        file.write_bytes(file.read_bytes() + checkpoints._seal(file, file.stat().st_size))


def inner_states(file: Path, draw: random.Random) -> None:
    """The same, an entry deeper."""
    state = torch.load(file, weights_only=True)
    sealed = checkpoints.is_whole(file)
    key = draw.choice([key for key in sorted(state) if isinstance(state[key], dict) and state[key]])
    state[key] = without(state[key], draw) if draw.random() < 0.5 else another_type(state[key], draw)
    torch.save(state, file)
    if sealed:
        file.write_bytes(file.read_bytes() + checkpoints._seal(file, file.stat().st_size))


CHECKPOINT: dict[str, Damage] = {
    "a part of another type": states,
    "an entry of another type": inner_states,
}
