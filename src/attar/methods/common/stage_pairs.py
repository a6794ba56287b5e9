"""Which layers of two networks are compared: their common stages, or layers by path; and what adapters need of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from torch import nn

from attar.errors import AttarError, PairError
from attar.methods.common.edge_options import by_key
from attar.models import Staged, has_tap, tap_shapes
from attar.models.surgery.adapters import resized
from attar.models.surgery.layouts import Arrange, Arranged, arranged_shape, as_vector
from attar.models.surgery.taps import tap_paths

# Pairs of layers, as a recipe writes them: {"student.layer2": "teacher.blocks.5"}.
Layers = Mapping[str, str]
# What methods of vectors compare unless layers are named.
POOLED = (("pooled", "pooled"),)


def require_staged(method: str, role: str, net: nn.Module) -> Staged:
    """The network as a staged one, or an error with the method that asked."""
    if isinstance(net, Staged):
        return net
    raise PairError(
        f"method {method!r} needs the stages of the {role}, and {type(net).__name__} has none; methods of logits (kd, "
        "dkd, dml) do without"
    )


def tap_pairs(
    method: str, teacher: nn.Module, student: nn.Module, layers: Layers | None, usual: Sequence[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """(teacher's tap, student's tap) of the layers that are compared.

    Args:
        method: its name, for messages.
        teacher: any network.
        student: any network.
        layers: {"student.PATH": "teacher.PATH", ...}, paths of modules, stages or "pooled"; None: the usual ones.
        usual: the method's own; none: all common stages.

    Raises:
        AttarError: a network has no such layer; the message has the nearest paths.
    """
    if not layers:
        return list(usual) or common_stages(method, teacher, student)
    if not isinstance(layers, Mapping):
        raise AttarError(f"layers: expected {{student.PATH: teacher.PATH, ...}}, got {layers!r}")
    named = by_key("layers", layers, "teacher.PATH")
    return [(_tap("teacher", teacher, theirs), _tap("student", student, own)) for own, theirs in named.items()]


def _tap(role: str, net: nn.Module, layer: str) -> str:
    """The tap of "student.PATH"."""
    owner, dot, path = str(layer).partition(".")
    if owner != role or not dot:
        raise AttarError(f"layers: {layer!r}: expected {role}.PATH; write {{student.PATH: teacher.PATH}}")
    if has_tap(net, path):
        return (net.stage_at(path) if isinstance(net, Staged) else None) or path
    paths = tap_paths(net)
    near = difflib.get_close_matches(path, paths, n=3, cutoff=0.5)
    others = near or [one for one in paths if "." not in one]
    raise AttarError(f"layers: the {role} has no layer {path!r}; {'near' if near else 'it has'}: {', '.join(others)}")


def arranged(module: nn.Module, layers: Layers | None, arrange: Arrange) -> nn.Module:
    """A loss or regressor, its features of layers by path brought to one layout first."""
    return Arranged(module, arrange) if layers else module


def layer_shapes(
    net: nn.Module,
    taps: Sequence[str],
    image_shape: tuple[int, int, int] | None,
    arrange: Arrange,
    layers: Layers | None,
) -> dict[str, tuple[int, ...]]:
    """The shapes of taps in one layout, without the batch.

    Raises:
        PairError: a stage gives tokens, which only layers by path bring to another layout (`arranged`).
    """
    shapes = tap_shapes(net, taps, image_shape)
    for tap, shape in shapes.items():
        if not layers and len(shape) == 2 and arrange is not as_vector:
            raise PairError(
                f"{tap} of {type(net).__name__} gives tokens {shape}, expected a map (C, H, W); name layers of square "
                "images (layers=), or use a method of vectors (rkd, pkt, cc)"
            )
    if not layers and arrange is not as_vector:  # a stage's map is (C, H, W), whatever its sizes
        return shapes
    return {tap: arranged_shape(shape, arrange) for tap, shape in shapes.items()}


def stage_name(method: str, role: str, net: Staged, stage: int) -> str:
    """The tap of a stage counted from 1, or from -1 backwards.

    Raises:
        AttarError: the network has no such stage.
    """
    count = len(net.stages)
    number = stage if stage > 0 else count + 1 + stage
    if not 1 <= number <= count:
        raise AttarError(f"method {method!r}: the {role} has stages 1..{count} (or -{count}..-1), not {stage}")
    return f"stage{number}"


def common_stages(method: str, teacher: nn.Module, student: nn.Module) -> list[tuple[str, str]]:
    """(teacher's tap, student's tap) for as many stages as both have, paired from the last backwards."""
    first = require_staged(method, "teacher", teacher)
    second = require_staged(method, "student", student)
    depth = min(len(first.stages), len(second.stages))
    return [
        (stage_name(method, "teacher", first, -back), stage_name(method, "student", second, -back))
        for back in range(depth, 0, -1)
    ]


def connector(own: tuple[int, ...], theirs: tuple[int, ...]) -> nn.Sequential:
    """A student's map (C, H, W) to the teacher's shape without a ReLU: 1x1 convolution, batch norm, resized."""
    (inputs, *old), (outputs, *new) = own, theirs
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), *resized(old, new))
