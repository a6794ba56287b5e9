"""What methods ask of staged networks: which stages there are and how two networks' stages pair up."""

from __future__ import annotations

from torch import nn

from attar.errors import AttarError
from attar.models import Staged
from attar.models.surgery.adapters import resized


def require_staged(method: str, role: str, net: nn.Module) -> Staged:
    """The network as a staged one, or an error with the method that asked and the methods that would work."""
    if isinstance(net, Staged):
        return net
    raise AttarError(
        f"method {method!r} needs the stages of the {role}, and {type(net).__name__} has none; use a network of "
        "attar.list_models(), one that attar.models.as_staged knows, or a method of logits alone (kd, dkd, dml)"
    )


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
