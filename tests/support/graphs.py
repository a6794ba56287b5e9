"""A small graph whose nodes have three classes, as a .npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

NODES = 30


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    """What the file holds; changes replace arrays, None leaves one out."""
    rng = np.random.default_rng(0)
    labels = np.arange(NODES) % 3
    features = (rng.random((NODES, 6)) < 0.3).astype(np.float32)
    features[np.arange(NODES), labels] = 1
    ring = np.stack([np.arange(NODES), (np.arange(NODES) + 3) % NODES])
    held = {
        "features": features,
        "edge_index": np.concatenate([ring, ring[::-1]], 1),
        "labels": labels,
        "train": np.arange(9),
        "val": np.arange(9, 15),
        "test": np.arange(15, NODES),
        "classes": np.array(["red", "green", "blue"]),
        **changes,
    }
    return {name: array for name, array in held.items() if array is not None}


def write(file: Path, **changes: Any) -> Path:
    """The file, with changes."""
    np.savez(file, **arrays(**changes))
    return file
