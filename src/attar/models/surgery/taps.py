"""One forward pass through any network, with the features that are asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.errors import AttarError, PairError, unknown
from attar.knowledge import Output, logits_of
from attar.models.surgery.ensemble import Ensemble, joined
from attar.models.surgery.staged import Staged
from attar.models.surgery.transformer_layers import layer_of_tap, layer_taps, watch


class NoClassifier(nn.Identity):
    """Stands where a network's classifier was taken out: its input are the features."""


class Tapped(nn.Module):
    """A network that also returns tapped features: `tapped(images, taps) -> Output`.

    Args:
        module: any network. The taps are module paths ("layer3.1.conv2") and "pooled", the classifier's input; of a
            `Staged` one also "stem", "stage1", "stage1.preact", .., and "final"; of a transformer that
            `transformer_layers` finds, "layer1.attention" (B, heads, N, N) and "layer1.cls" (B, D), ...
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.requested: tuple[str, ...] = ()

    def request(self, tap: str) -> None:
        """Ask for a tap in every later call, whatever else the call asks for."""
        self.requested = tuple(dict.fromkeys((*self.requested, tap)))

    def forward(self, images: Inputs, taps: Sequence[str] = ()) -> Output:
        return observe(self.module, images, tuple(dict.fromkeys((*taps, *self.requested))))

    @property
    def classifier(self) -> nn.Linear:
        return classifier_of(self.module)


def has_tap(net: nn.Module, tap: str) -> bool:
    """Whether a network can be tapped under this name.

    >>> has_tap(nn.Sequential(nn.Linear(4, 3)), "0"), has_tap(nn.Sequential(nn.Linear(4, 3)), "stage1")
    (True, False)
    """
    return tap in tap_paths(net)


def tap_paths(net: nn.Module) -> list[str]:
    """Every name under which a network can be tapped: the taps of a staged one, its modules' paths, "pooled"."""
    if isinstance(net, Ensemble):
        return ["pooled"]
    own = [name for name, _ in net.named_modules(remove_duplicate=False) if name]
    usual = net.tap_names if isinstance(net, Staged) else ("pooled",)
    return list(dict.fromkeys([*usual, *layer_taps(net), *native_modules(net), *own]))


def module_at(net: nn.Module, path: str) -> nn.Module:
    """The module at a path inside a network.

    Raises:
        AttarError: there is none.
    """
    try:
        return net.get_submodule(path)
    except AttributeError:
        native = native_modules(net)
    if path not in native:
        raise unknown("tap", path, tap_paths(net))
    return native[path]


def native_modules(net: nn.Module) -> dict[str, nn.Module]:
    """The modules of a staged network from a library by the library's own paths ("blocks.5")."""
    names: dict[str, str] = getattr(net, "native", {})
    held, held_there = (Counter(path for key in keys for path in above(key)) for keys in (names, names.values()))
    found: dict[str, nn.Module] = {}
    for key, theirs in names.items():
        for path, other in zip(above(key), above(theirs), strict=False):
            # The same module where both trees have as much below it.
            if other not in found and held[path] == held_there[other]:
                found[other] = net.get_submodule(path)
    return found


def above(key: str) -> list[str]:
    """The paths of the modules that hold a parameter, the innermost first.

    >>> above("layer1.0.conv.weight")
    ['layer1.0.conv', 'layer1.0', 'layer1']
    """
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def observe(net: nn.Module, images: Inputs, taps: Collection[str] = (), logits: bool = True) -> Output:
    """Run a network once; its logits and the taps asked for are returned and kept nowhere.

    Inputs that are tensors by name are passed by name, as networks of transformers and torch_geometric take them.

    A module that runs several times gives its last output; of an output that is a tuple the first tensor is the tap, as
    in the layers of transformers. A staged network may end at its last tap, without logits.

    Raises:
        AttarError: a tap the network does not have, that did not run, that ran without gradients, that is no tensor, or
            that a later layer overwrote in place; an output without logits.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> observe(net, torch.zeros(5, 1, 2, 2), ["2", "pooled"]).tap("2").shape
    torch.Size([5, 3])
    """
    if isinstance(net, Ensemble):
        return joined([observe(one, images, taps) for one in net.networks])
    stages = [tap for tap in taps if isinstance(net, Staged) and tap in net.tap_names]
    paths = [tap for tap in taps if tap not in stages]
    if isinstance(net, Staged) and not paths:
        return net.features(images, taps, logits)
    seen: dict[str, tuple[Tensor, int]] = {}
    with ExitStack() as hooks:
        for tap in paths:
            hooks.enter_context(hook(net, tap, seen))
        if isinstance(net, Staged):
            output = net.features(images, stages)
        else:
            output = Output(logits_of(net(**images) if isinstance(images, dict) else net(images)))
    return Output(output.logits, {**output.taps, **{tap: unspoilt(tap, seen) for tap in paths}})


def hook(net: nn.Module, tap: str, seen: dict[str, tuple[Tensor, int]]) -> AbstractContextManager[object]:
    """Watch one tap during one call: the value goes to `seen` with its version."""
    if found := layer_of_tap(net, tap):
        return watch(net, *found, keep=lambda value: seen.__setitem__(tap, (value, version(value))))
    caller, learning = threading.get_ident(), torch.is_grad_enabled()

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        # Another thread may be running the same network: its features belong to its own call.
        if threading.get_ident() != caller:
            return
        value = inputs[0] if tap == "pooled" else output
        if isinstance(value, tuple) and value:
            value = value[0]
        if not isinstance(value, Tensor):
            raise AttarError(f"the tap {tap!r} gives a {type(value).__name__}, not a tensor; tap a module inside it")
        if learning and not torch.is_grad_enabled():
            raise AttarError(
                f"the tap {tap!r} runs without gradients in a network that has them, so nothing would learn from it; "
                "if that is gradient checkpointing, give use_reentrant=False"
            )
        seen[tap] = (value, version(value))

    if tap == "pooled":
        return classifier_of(net).register_forward_hook(keep)
    return module_at(net, tap).register_forward_hook(keep)


def version(value: Tensor) -> int:
    """How often a tensor was written in place; inference tensors do not count."""
    return 0 if value.is_inference() else value._version


def unspoilt(tap: str, seen: Mapping[str, tuple[Tensor, int]]) -> Tensor:
    """A tapped value, provided that it ran and was not written over."""
    if tap not in seen:
        raise AttarError(
            f"the tap {tap!r} did not run in the forward pass; choose a module that does (of a network that "
            "torch.compile wrapped none runs: call net.compile() instead)"
        )
    value, then = seen[tap]
    if version(value) != then:
        raise AttarError(
            f"the tap {tap!r} is overwritten in place by a later layer; tap that layer, or set inplace=False"
        )
    return value


def classifier_of(net: nn.Module) -> nn.Linear:
    """The linear layer that makes the logits: a staged network's own, else the last one by module order.

    >>> classifier_of(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))).out_features
    2
    """
    if isinstance(net, Staged):
        return net.classifier
    if isinstance(net, Ensemble):
        raise AttarError("several teachers have no common classifier; give one teacher")
    if (end := next((module for module in net.modules() if isinstance(module, NoClassifier)), None)) is not None:
        return cast(nn.Linear, end)  # for whoever taps its input
    linears = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise PairError(f"{type(net).__name__} has no linear layer to be its classifier")
    return linears[-1]


def tap_shapes(
    net: nn.Module, taps: Sequence[str], image_shape: tuple[int, ...] | None = None
) -> dict[str, tuple[int, ...]]:
    """Each tap's shape without the batch, found by one forward pass of zeros that leaves the network as it was.

    Args:
        net: any network; it is run in eval mode and every module's mode is restored.
        taps: as for `Tapped`.
        image_shape: (C, H, W); the network's `input_shape` where it has one.

    >>> from attar.models.create import create_model
    >>> tap_shapes(create_model("resnet20"), ["stage2", "pooled"])
    {'stage2': (32, 16, 16), 'pooled': (64,)}
    """
    output = _output_of_zeros(net, taps, image_shape)
    return {tap: tuple(output.tap(tap).shape[1:]) for tap in taps}


def class_count(net: nn.Module, image_shape: tuple[int, ...] | None = None) -> int:
    """How many numbers its logits have, found as `tap_shapes` finds a tap's.

    >>> from attar.models.create import create_model
    >>> class_count(create_model("resnet20", num_classes=10))
    10
    """
    return _output_of_zeros(net, (), image_shape).logits.shape[1]


def _output_of_zeros(net: nn.Module, taps: Sequence[str], image_shape: tuple[int, ...] | None) -> Output:
    """What a network gives for two images of zeros; it is left as it was."""
    inputs = zeros(net, image_shape)
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        with torch.no_grad():
            return observe(net, inputs, taps)
    finally:
        for module, mode in modes.items():
            module.training = mode


def zeros(net: nn.Module, image_shape: tuple[int, ...] | None) -> Inputs:
    """Two samples of zeros, as a network takes them.

    Raises:
        AttarError: the shape is not known.
    """
    if isinstance(net, Staged) and (blank := net.blank(2)) is not None:
        return blank
    shape = image_shape or getattr(net, "input_shape", None)
    if shape is None:
        raise AttarError(f"{type(net).__name__} does not say its input_shape; give image_shape=(C, H, W)")
    like = next(net.parameters(), torch.zeros(()))
    dtype = getattr(net, "input_dtype", None) or like.dtype
    return torch.zeros(2, *shape, device=like.device, dtype=dtype)
