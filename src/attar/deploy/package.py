"""A network as two files: weights in safetensors, and a small JSON beside them from which it is rebuilt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import nn

from attar.errors import AttarError
from attar.files import write_bytes, write_json
from attar.models import build, load_weights
from attar.plugins import naming_imports


def save(net: nn.Module, path: str | Path, **facts: Any) -> Path:
    """Write `path` (.safetensors) and the JSON of the same name.

    Args:
        net: a network with a `spec` (the zoo's have one); without one, only plain torch can load the file again.
        path: where the weights go.
        facts: further entries of the JSON (classes, normalisation, scores).

    Returns:
        The path of the weights.
    """
    path = Path(path)
    net = getattr(net, "_orig_mod", net)  # torch.compile's wrapper would change every key
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in net.state_dict().items()
    }
    # As bytes: a full disk is an OSError then, which the library's own writing hides.
    write_bytes(path, to_bytes(state))
    write_json(path.with_suffix(".json"), {"attar": 1, "spec": getattr(net, "spec", None), **facts})
    return path


def load_card(path: str | Path) -> dict[str, Any]:
    """The JSON beside saved weights.

    Raises:
        AttarError: it is missing or is not one of ours.
    """
    file = Path(path).with_suffix(".json")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise AttarError(f"{file} is missing; it is needed to rebuild the network of {Path(path).name}") from None
    except ValueError:
        raise AttarError(f"{file} is no JSON; restore it from the run that wrote it") from None
    if not isinstance(card, dict) or not isinstance(card.get("spec"), dict):
        raise AttarError(f"{file} names no network (no 'spec'); load the weights with plain torch")
    return card


def load(path: str | Path) -> nn.Module:
    """The network of a saved student, in eval mode.

    Args:
        path: a .safetensors file, or a run's folder, whose student.safetensors is meant.

    Raises:
        AttarError: a file is missing, damaged or does not fit.
    """
    path = Path(path)
    file = path / "student.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise AttarError(f"{file} does not exist; give a run's folder or a .safetensors file")
    with naming_imports(file):
        net = build(load_card(file)["spec"])
    load_weights(net, file)
    return net.eval()
