"""Trained weights from a file into a network, or an error in one line."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
import torch
from torch import Tensor, nn

from attar.errors import AttarError, unknown
from attar.models.surgery.taps import classifier_of

# The average of the weights comes first where a checkpoint holds both, as it is what was evaluated.
WRAPPINGS = ("model_ema", "state_dict_ema", "ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "net")
# Parts of names that DDP and torch.compile put in, before a network or before a part of it.
WRAPPERS = ("module", "_orig_mod")
COUNT = "num_batches_tracked"
# What averages of weights and counters of operations (thop, fvcore) keep beside the weights.
BOOKKEEPING = ("n_averaged", "total_ops", "total_params", "num_updates", "decay")
Head = Literal["same", "fresh"]


@dataclass(frozen=True)
class Weights:
    """What a network starts from: the arguments of `load_weights`, or what its library publishes.

    Attributes:
        source: a file, "pretrained", or None for the random initialisation.
        head: what happens where only the number of classes differs.
        classes: the rows of the classifier to keep; None: all.
    """

    source: str | Path | None = None
    head: Head = "same"
    classes: Sequence[int] | None = None


def load_weights(net: nn.Module, path: str | Path, head: Head = "same", classes: Sequence[int] | None = None) -> None:
    """Load a safetensors or torch file into a network; nothing is changed unless everything fits.

    A torch file may wrap the state dict ("state_dict", "model", "model_state_dict", "model_ema", "ema", "net"). Its
    keys may carry the names that DDP and torch.compile put in, and one prefix ("model.", "backbone."): the shortest
    under which every key of the network exists. What lies beside it is left out with a warning. Only tensors are
    unpickled.
    A staged network of timm or torchvision takes files of that library.

    Args:
        net: the network.
        path: the file.
        head: what happens where only the number of classes differs, or the file has no classifier: "same" refuses,
            "fresh" keeps the network's own classifier and warns.
        classes: which rows of the file's classifier to keep, in the order of the network's; None: all.

    Raises:
        AttarError: a file that is missing, unreadable or without a state dict; another architecture; other shapes.
    """
    fit(net, read_state(path), str(path), head, classes)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict of a weights file, out of its wrappings.

    Raises:
        AttarError: a file that is missing, unreadable or without a state dict.
    """
    return unwrapped(read(weights_file(path)), Path(path))


def weights_file(path: str | Path) -> Path:
    """The path, where it is a file.

    Raises:
        AttarError: nothing is there, or a folder.
    """
    file = Path(path)
    if file.is_dir():
        raise AttarError(
            f"{path} is a folder, not a weights file; a run's folder is given as the network (teacher={path} or "
            f"student={path}), without weights"
        )
    if not file.is_file():
        raise AttarError(f"no weights at {path}; give the path of a .safetensors or .pth file")
    return file


def read(path: Path) -> Any:
    """What a weights file holds, on the CPU."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        refuse_compressed(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except AttarError:
        raise
    except Exception as error:
        # The two readers raise half a dozen types for a damaged file; the user's remedy is the same.
        raise AttarError(f"cannot read {path} as weights; save them with torch.save(net.state_dict(), path)") from error


def refuse_compressed(path: Path) -> None:
    """torch.save never compresses, and a small compressed file may hold many gigabytes.

    Raises:
        AttarError: the file is a ZIP archive with a compressed member.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise AttarError(f"{path} is compressed, as torch.save never does; save its weights again")


def unwrapped(held: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside the usual wrappings."""
    if (found := tensors_in(held)) is None:
        raise AttarError(f"{path} holds no state dict; save one with torch.save(net.state_dict(), path)")
    return found


def tensors_in(held: Any) -> dict[str, Tensor] | None:
    """The first of the usual wrappings that leads to tensors; None: no one does.

    >>> list(tensors_in({"ema": {"decay": 0.9}, "model": {"state_dict": {"fc.bias": torch.zeros(1)}}}))
    ['fc.bias']
    """
    if not isinstance(held, Mapping) or not held:
        return None
    if all(isinstance(value, Tensor) for value in held.values()):
        return dict(held)
    inner = (tensors_in(held[key]) for key in WRAPPINGS if key in held)
    return next((found for found in inner if found is not None), None)


def stripped(given: Mapping[str, Tensor], own: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors under a network's own names: without wrappers' names, bookkeeping and the prefix of the network.

    The prefix is the shortest under which all keys of the network exist, of its classifier as of the rest; a state
    dict without one comes back whole, so that what does not fit is named.

    >>> list(stripped({"module.fc.bias": torch.zeros(1)}, {"fc.bias": None}))
    ['fc.bias']
    """
    state = {without_wrappers(key, own): value for key, value in given.items()}
    state = {key: value for key, value in state.items() if key in own or key.rpartition(".")[2] not in BOOKKEEPING}
    # Files from before batch norms counted their batches do not have the counts.
    needed = [key for key in own if not key.endswith(COUNT)]
    if not needed or state.keys() & own.keys():
        return state
    ends = sorted((key.removesuffix(needed[0]) for key in state if key.endswith("." + needed[0])), key=len)
    prefix = next((end for end in ends if all(end + key in state for key in needed)), common_prefix(state, own))
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def without_wrappers(key: str, own: Mapping[str, Any]) -> str:
    """A key without the parts that DDP and torch.compile put in, unless the network has such parts itself.

    >>> without_wrappers("features.module.0.weight", {"features.0.weight": None})
    'features.0.weight'
    """
    for wrapper in WRAPPERS:
        if not any(wrapper in name.split(".") for name in own):
            key = ".".join(part for part in key.split(".") if part != wrapper)
    return key


def common_prefix(state: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """The whole names that all keys begin with, where some key of the network follows them; else "".

    >>> common_prefix({"model.fc.bias": None, "model.fc.old": None}, {"fc.bias": None, "fc.weight": None})
    'model.'
    """
    prefix = ""
    while not any(prefix + key in state for key in own):
        heads = {key.removeprefix(prefix).partition(".")[0] for key in state}
        if len(heads) != 1 or any("." not in key.removeprefix(prefix) for key in state):
            return ""
        prefix += heads.pop() + "."
    return prefix


def fit(
    net: nn.Module,
    given: Mapping[str, Tensor],
    source: str,
    head: Head = "same",
    classes: Sequence[int] | None = None,
) -> None:
    """Put a state dict into a network; nothing is changed unless everything fits.

    Args:
        net: the network.
        given: the tensors by name.
        source: where they are from, for the messages.
        head: as for `load_weights`.
        classes: as for `load_weights`.

    Raises:
        AttarError: another architecture, other shapes, or other classes where `head` is "same".
    """
    if head not in get_args(Head):
        raise unknown("head", head, get_args(Head))
    own, kind = net.state_dict(), type(net).__name__
    state = stripped(given, own)
    native: dict[str, str] = getattr(net, "native", {})
    if native and not state.keys() & own.keys():
        state = stripped(given, dict.fromkeys(native.values()))
        ours = {theirs: key for key, theirs in native.items()}
        state = {ours.get(key, key): value for key, value in state.items()}
    kept = {id(tensor) for tensor in state.values()}
    if left := [key for key, tensor in given.items() if id(tensor) not in kept]:
        warnings.warn(
            f"{source}: {len(left)} entries beside the network are left out (first {left[0]!r})", stacklevel=2
        )
    if not any(key.endswith(COUNT) for key in state):
        state |= {key: held for key, held in own.items() if key.endswith(COUNT)}
    if classes is not None:
        state = picked(net, state, classes, source)
    other = other_classes(net, own, state)
    if head == "fresh" and (gone := without_classifier(net, own, state)):
        warnings.warn(f"{source} has no classifier: {gone!r} begins anew, the rest is loaded", stacklevel=2)
        state |= {key: own[key] for key in (f"{gone}.weight", f"{gone}.bias") if key in own}
    if other:
        layer, known = other
        wanted = own[f"{layer}.weight"].shape[0]
        if head == "same":
            raise AttarError(
                f"'{layer}.weight' is of {known} classes in {source}, the {kind} has {wanted}; give weights of those"
            )
        warnings.warn(
            f"{source} has {known} classes, not {wanted}: the classifier {layer!r} begins anew, the rest is loaded",
            stacklevel=2,
        )
        state |= {key: own[key] for key in (f"{layer}.weight", f"{layer}.bias") if key in own}
    check_fit(own, state, source, kind)
    net.load_state_dict(state)


def other_classes(net: nn.Module, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[str, int] | None:
    """(name, classes) of the file's classifier where it only differs from the network's in the number of classes."""
    try:
        classifier = classifier_of(net)
    except AttarError:
        return None
    name = next(name for name, module in net.named_modules() if module is classifier)
    weight = f"{name}.weight"
    if weight not in given or given[weight].ndim != 2 or given[weight].shape[1] != own[weight].shape[1]:
        return None
    known = given[weight].shape[0]
    return None if known == own[weight].shape[0] else (name, known)


def without_classifier(net: nn.Module, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """The name of the network's classifier where a file has all but that, as headless networks are saved."""
    try:
        classifier = classifier_of(net)
    except AttarError:
        return None
    name = next(name for name, module in net.named_modules() if module is classifier)
    missing = {key for key in own if key not in given}
    return name if missing and missing <= {f"{name}.weight", f"{name}.bias"} else None


def picked(net: nn.Module, given: Mapping[str, Tensor], rows: Sequence[int], source: str) -> dict[str, Tensor]:
    """The state with only some rows of its classifier.

    Raises:
        AttarError: the network has no linear classifier, or the file's has no such rows.
    """
    classifier = classifier_of(net)
    name = next(name for name, module in net.named_modules() if module is classifier)
    weight = given.get(f"{name}.weight")
    known = 0 if weight is None else len(weight)
    if beyond := [row for row in rows if not 0 <= row < known]:
        raise AttarError(f"{source} has {known} classes in {name!r}, numbered from 0; there is no class {beyond[0]}")
    if len(rows) != classifier.out_features:
        raise AttarError(
            f"classes picks {len(rows)} rows for a network of {classifier.out_features}; give one for each"
        )
    index = torch.tensor(rows)
    return {**given, **{key: given[key][index] for key in (f"{name}.weight", f"{name}.bias") if key in given}}


def check_fit(own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str, kind: str) -> None:
    """Refuse weights of another architecture, and of other shapes."""
    missing = [key for key in own if key not in given]
    unexpected = [key for key in given if key not in own]
    if missing or unexpected:
        parts = [
            f"{len(keys)} {what} (first {keys[0]!r})"
            for what, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise AttarError(f"{source} is not of this {kind}: {', '.join(parts)}; name the network it was saved from")
    for key, tensor in own.items():
        if tensor.is_floating_point() != given[key].is_floating_point() or given[key].layout != torch.strided:
            raise AttarError(
                f"{key!r} is {given[key].dtype} ({given[key].layout}) in {source}, {tensor.dtype} in the {kind}; save "
                "the network's own state_dict(), not quantised or sparse"
            )
        if given[key].shape != tensor.shape:
            raise AttarError(
                f"{key!r} is {tuple(given[key].shape)} in {source} and {tuple(tensor.shape)} in the {kind}; "
                "create the network with the file's classes and widths"
            )
