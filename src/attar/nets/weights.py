"""Trained weights from a file into a network, or one line that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from attar.errors import AttarError

WRAPPINGS = ("state_dict", "model", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.")


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Load a safetensors or torch file into a network; nothing is changed unless everything fits.

    A torch file may wrap the state dict ("state_dict", "model", "model_state_dict"), and its keys may carry the
    prefixes of DDP and of torch.compile. Only tensors are unpickled.

    Raises:
        AttarError: a file that is missing, unreadable or without a state dict; another architecture; other shapes.
    """
    path = Path(path)
    if not path.is_file():
        raise AttarError(f"no weights at {path}; give the path of a .safetensors or .pth file")
    state = unwrapped(read(path), path)
    check_fit(net.state_dict(), state, path, type(net).__name__)
    net.load_state_dict(state)


def read(path: Path) -> Any:
    """What a weights file holds, on the CPU."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The two readers raise half a dozen types for a damaged file; the user's remedy is the same.
        raise AttarError(f"cannot read {path} as weights; save them with torch.save(net.state_dict(), path)") from error


def unwrapped(held: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside the usual wrappings, without the usual prefixes."""
    while isinstance(held, Mapping) and (inner := next((key for key in WRAPPINGS if key in held), None)):
        held = held[inner]
    if not isinstance(held, Mapping) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise AttarError(f"{path} holds no state dict; save one with torch.save(net.state_dict(), path)")
    state = dict(held)
    while prefix := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def check_fit(own: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path, kind: str) -> None:
    """Refuse weights of another architecture, and of other shapes."""
    missing = [key for key in own if key not in given]
    unexpected = [key for key in given if key not in own]
    if missing or unexpected:
        parts = [
            f"{len(keys)} {what} (first {keys[0]!r})"
            for what, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise AttarError(f"{path} is not of this {kind}: {', '.join(parts)}; name the network it was saved from")
    for key, tensor in own.items():
        if given[key].shape != tensor.shape:
            raise AttarError(
                f"{key!r} is {tuple(given[key].shape)} in {path} and {tuple(tensor.shape)} in the {kind}; "
                "create the network with the file's classes and widths"
            )
