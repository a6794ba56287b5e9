"""SOKD's bridge: the upper part of a teacher begun anew, on top of the lower part that stays frozen."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any, Literal, get_args

from torch import Tensor, nn

from attar.batch import Inputs
from attar.errors import AttarError, unknown
from attar.knowledge import Output
from attar.models.surgery.reinitialise import fresh_copy
from attar.models.surgery.staged import Staged

Init = Literal["random", "teacher"]


class Bridge(nn.Module):
    """A trainable copy of a staged teacher's upper part; the teacher itself is not changed.

    Args:
        teacher: the staged network it is copied from.
        split: how many of the teacher's stages stay below the bridge; a negative number counts from the end. -1
            leaves the last stage and the head, "last" the head alone, and 0 makes the bridge a whole second teacher
            that reads the image.
        init: "random" begins anew, "teacher" starts from the teacher's weights.

    Attributes:
        start: the split counted from 0.
        source: the teacher's tap that the bridge reads, "" where it reads the image.

    Raises:
        AttarError: a split outside the teacher's stages, or an unknown init.

    >>> from attar.models import create_model
    >>> sum(parameter.numel() for parameter in Bridge(create_model("wrn_40_2")).parameters())
    1720036
    """

    def __init__(self, teacher: Staged, split: int | str = -1, init: Init = "random") -> None:
        super().__init__()
        if init not in get_args(Init):
            raise unknown("kbm_init", init, get_args(Init))
        self.start = stages_below(teacher, split)
        self.source = f"stage{self.start}" if self.start else ""
        below = ("stem", *(f"stage{number}" for number in range(1, self.start + 1))) if self.start else ()
        upper = teacher.without(*below)
        self.upper = fresh_copy(upper) if init == "random" else copy.deepcopy(upper).requires_grad_(True).train()

    def forward(self, x: Inputs, taps: Collection[str] = (), context: Any = None) -> Output:
        """The teacher's map at `source` (or the inputs) to logits and taps; `context` is the teacher's."""
        if not self.start:
            return self.upper.features(x, taps)
        assert isinstance(x, Tensor)
        return self.upper.resume(x, self.start, taps, context=context)

    def on(self, teacher: Staged) -> Staged:
        """A network of the teacher's architecture: its own lower part, copied, under the bridge, which is shared."""
        joined = copy.copy(teacher)
        joined._modules = {
            name: self.upper._modules[name] if name in self.upper._modules else copy.deepcopy(part)
            for name, part in teacher._modules.items()
        }
        return joined


def stages_below(teacher: Staged, split: int | str) -> int:
    """How many stages a split leaves below the bridge.

    >>> from attar.models import create_model
    >>> [stages_below(create_model("resnet20"), split) for split in (-1, 0, 1, "last")]
    [2, 0, 1, 3]
    """
    count = len(teacher.layout.stages)
    start = count if split == "last" else split
    if not isinstance(start, int) or not -count <= start <= count:
        raise AttarError(f"split={split!r}; the teacher has {count} stages: give -{count}..{count} or 'last'")
    return start % count if start < 0 else start
