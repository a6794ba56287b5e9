"""A network as stem, stages and head: the shape that surgery works on."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Inputs
from attar.errors import AttarError, unknown
from attar.knowledge import Output


class Layout(NamedTuple):
    """The names of a staged network's own submodules, in the order they run; the classifier is the last of the head."""

    stem: tuple[str, ...]
    stages: tuple[str, ...]
    head: tuple[str, ...]


class Block(nn.Module):
    """A block that ends in a ReLU and can give its pre-activation."""

    def preactivation(self, x: Tensor) -> Tensor:
        """The value before the last ReLU: a new tensor that nothing else reads."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.preactivation(x), inplace=True)


class Staged(nn.Module):
    """Stem -> stage 1..S -> head, each runnable alone.

    A family defines how its stem runs (`stem`), what stands between the last stage and the average over space (`final`,
    nothing by default), and which of its submodules belong where. Taps are "stem", "stage1" .. "stageS" (what flows
    into the next stage), "stage1.preact" .. (the same before the stage's last ReLU, where it ends in one), "final"
    (the map that is averaged) and "pooled" (what the classifier sees).

    Args:
        layout: which of the submodules make the stem, the stages and the head.

    Attributes:
        input_shape: (C, H, W) of the images it was made for; None where it is unknown.
        spec: what `attar.models.build` rebuilds it from, without weights; None for a network made by hand.
        smallest: the smallest image side it can take.
        input_dtype: the type of its inputs where it is not that of its parameters: token ids are int64.
        encoder_stages: how many stages make the encoder, whose output is the code that the rest decodes; None: all.
    """

    smallest: int = 1
    encoder_stages: int | None = None
    input_dtype: torch.dtype | None = None

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.input_shape: tuple[int, int, int] | None = None
        self.spec: dict[str, Any] | None = None

    def stem(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to the map that enters stage 1."""
        raise NotImplementedError

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return tuple(getattr(self, name) for name in self.layout.stages)

    def context(self, inputs: Inputs, x: Tensor) -> Any:
        """What every stage needs besides the map before it: the edges of a graph, say. None: nothing.

        Args:
            inputs: of the network.
            x: what the stem made of them.
        """
        return None

    def blank(self, batch: int) -> Inputs | None:
        """Inputs of zeros, where the network takes several by name; None: one tensor of `input_shape`."""
        return None

    def run_stage(self, index: int, x: Tensor, context: Any = None) -> tuple[Tensor, Tensor]:
        """Stage `index` (from 0) on the map before it: its output, and that output before the stage's last ReLU.

        Both are the same tensor where the stage does not end in a ReLU. `context` is what `context()` gave.
        """
        stage = getattr(self, self.layout.stages[index])
        last = stage[-1] if isinstance(stage, nn.Sequential) else None
        if not isinstance(last, Block):
            x = stage(x)
            return x, x
        for block in list(stage)[:-1]:
            x = block(x)
        before = last.preactivation(x)
        return F.relu(before), before

    def stage_at(self, path: str) -> str | None:
        """The tap of a stage, or of the last block of one, that `run_stage` takes apart; None for other paths.

        >>> from attar.models.create import create_model
        >>> net = create_model("resnet20")
        >>> net.stage_at("layer2"), net.stage_at("layer2.2"), net.stage_at("layer2.1")
        ('stage2', 'stage2', None)
        """
        for number, name in enumerate(self.layout.stages, 1):
            stage = getattr(self, name)
            parted = isinstance(stage, nn.Sequential) and isinstance(stage[-1], Block)
            if parted and path in (name, f"{name}.{len(stage) - 1}"):
                return f"stage{number}"
        return None

    def final(self, x: Tensor) -> Tensor:
        """What a family does to the last stage's map before it is averaged over space."""
        return x

    def pool(self, x: Tensor) -> Tensor:
        """The last stage's map to the vector (B, C) that the classifier sees."""
        return self.average(self.final(x))

    def average(self, x: Tensor) -> Tensor:
        """The last map as one vector a row: the tap "pooled", and by default what the classifier sees."""
        return averaged(x)

    def output(self, final: Tensor, pooled: Tensor) -> Tensor:
        """What the network puts out: logits (B, K) of the pooled vector, unless a family overrides it."""
        return self.classifier(pooled)

    @property
    def classifier(self) -> nn.Linear:
        return getattr(self, self.layout.head[-1])

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).logits

    def features(self, images: Inputs, taps: Collection[str] = (), logits: bool = True) -> Output:
        """One forward pass: the logits, and the taps asked for; without logits (B, 0), it ends at the last of them.

        Raises:
            AttarError: a tap that the network does not have.
        """
        x = self.stem(images)  # type: ignore[arg-type]  # a family defines what its stem takes
        output = self.resume(x, taps=taps, logits=logits, context=self.context(images, x))
        if "stem" in taps:
            output.taps["stem"] = x
        return output

    def resume(
        self, x: Tensor, start: int = 0, taps: Collection[str] = (), logits: bool = True, context: Any = None
    ) -> Output:
        """The forward pass from the input of stage `start` (from 0) on, to the logits or the last tap."""
        known = self.tap_names
        for tap in taps:
            if tap not in known:
                raise unknown("tap", tap, known)
        seen: dict[str, Tensor] = {}
        for index in range(start, len(self.layout.stages)):
            if not logits and {"stem", *seen} >= set(taps):
                return Output(x.new_zeros(len(x), 0), seen)
            x, seen[f"stage{index + 1}.preact"] = self.run_stage(index, x, context)
            seen[f"stage{index + 1}"] = x
            seen = {name: value for name, value in seen.items() if name in taps}
        seen["final"] = self.final(x)
        seen["pooled"] = self.average(seen["final"])
        taken = {name: value for name, value in seen.items() if name in taps}
        return Output(self.output(seen["final"], seen["pooled"]), taken)

    @property
    def tap_names(self) -> tuple[str, ...]:
        """Every tap, in the order of the forward pass."""
        numbers = range(1, len(self.layout.stages) + 1)
        return ("stem", *(f"stage{n}{end}" for n in numbers for end in (".preact", "")), "final", "pooled")

    def without(self, *parts: str) -> Self:
        """The same network without some of "stem", "stage1" .. "stageS", "head": the rest is shared, not copied.

        `teacher.without("stem", "stage1", "stage2")` is the part that `resume(x, start=2)` runs, and nothing else
        is in its state dict. It has no spec.

        Raises:
            AttarError: a part that the network does not have.
        """
        groups = {"stem": self.layout.stem, "head": self.layout.head}
        groups |= {f"stage{n}": (name,) for n, name in enumerate(self.layout.stages, 1)}
        for part in parts:
            if part not in groups:
                raise unknown("part", part, groups)
        dropped = {name for part in parts for name in groups[part]}
        rest = copy.copy(self)
        rest._modules = {name: module for name, module in self._modules.items() if name not in dropped}
        rest.spec = None
        return rest

    @property
    def code_tap(self) -> str:
        """The tap of the encoder's output: of an autoencoder the codeword, of any other network the last stage."""
        return f"stage{self.encoder_stages or len(self.layout.stages)}"

    def initialise(self) -> None:
        """Convolutions Kaiming normal over the fan out with bias 0; the rest stays as torch makes it."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def averaged(x: Tensor) -> Tensor:
    """The average of a map (B, C, H, W) over space: (B, C)."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def check_stages(depths: Sequence[int], widths: Sequence[int]) -> None:
    """Depths and widths must have one entry for each stage."""
    if len(depths) != len(widths) or not depths or min(*depths, *widths) < 1:
        raise AttarError(f"depths {list(depths)} and widths {list(widths)} differ; give a positive pair for each stage")
