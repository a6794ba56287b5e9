"""Frozen teacher, inference only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.knowledge import Output
from attar.models.surgery.taps import classifier_of, observe, version


class Engine(Protocol):
    """Computes logits and taps.

    Attributes:
        name: what logs call it.
    """

    name: str

    def __call__(self, images: Any, taps: tuple[str, ...] = ()) -> Output: ...


@dataclass(frozen=True)
class CachedOutput:
    """A network's output for one batch.

    Attributes:
        images: the inputs, one tensor or tensors by name.
        output: logits and taps.
        versions: how often the tensors were written in place by then.
    """

    images: Inputs
    output: Output
    versions: tuple[int, ...]

    @classmethod
    def of(cls, images: Inputs, output: Output) -> CachedOutput:
        """As it is now."""
        return cls(images, output, cls._versions(images, output))

    def about(self, images: Inputs, taps: Collection[str]) -> Output | None:
        """It again, for this very tensor; None where a tap is missing, or a tensor was written to since."""
        if images is not self.images or not set(taps) <= set(self.output.taps):
            return None
        return self.output if self._versions(images, self.output) == self.versions else None

    @staticmethod
    def _versions(images: Inputs, output: Output) -> tuple[int, ...]:
        given = images.values() if isinstance(images, dict) else [images]
        return tuple(version(tensor) for tensor in (*given, output.logits, *output.taps.values()))


class Plain:
    """The network as it is, in the caller's precision."""

    name = "plain"

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, images: Inputs, taps: tuple[str, ...] = ()) -> Output:
        return observe(self.module, images, taps)


class Frozen:
    """A network that is run without a graph and in eval mode, and never learns.

    It is not a module: a method that holds one does not register, save or train the network inside. The network
    given is itself frozen (`requires_grad` off, eval mode), not a copy. Precision is the caller's: an autocast
    around the call applies.

    Args:
        module: any network.

    Attributes:
        engine: what computes the forward pass; the network itself until a faster one is put here.

    >>> from attar.models.create import create_model
    >>> frozen = Frozen(create_model("resnet20"))
    >>> frozen(torch.zeros(2, 3, 32, 32), ["stage3"]).tap("stage3").shape
    torch.Size([2, 64, 8, 8])
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module.requires_grad_(False).eval()
        self.requested: tuple[str, ...] = ()
        self.engine: Engine = Plain(self.module)
        self._cached: CachedOutput | None = None
        self._call: Callable[[Inputs, Sequence[str]], Output] = self._run

    def request(self, tap: str) -> None:
        """Ask for a tap in every later call, whatever else the call asks for."""
        self.requested = tuple(dict.fromkeys((*self.requested, tap)))

    def __call__(self, images: Inputs, taps: Sequence[str] = ()) -> Output:
        """Logits and taps, as `Tapped` gives them."""
        return self._call(images, taps)

    def leave_graphs(self) -> None:
        """From now on torch.compile does not look inside: engines and what is known already are not for tracing."""
        self._call = torch.compiler.disable(self._run)

    @torch.no_grad()
    def _run(self, images: Inputs, taps: Sequence[str]) -> Output:
        # Whoever else holds the network may have called train() on it.
        if any(module.training for module in self.module.modules()):
            self.module.eval()
        wanted = tuple(dict.fromkeys((*taps, *self.requested)))
        cached = self._cached.about(images, wanted) if self._cached else None
        return cached or self.engine(images, wanted)

    def set_output(self, images: Inputs, output: Output) -> None:
        """Set the output for this very tensor: the next calls with it compute nothing.

        Another tensor, even an equal one, the same tensor written to since, or taps that `output` lacks are computed.
        """
        self._cached = CachedOutput.of(images, output)

    def clear_output(self) -> None:
        """Compute every call again."""
        self._cached = None

    def differentiable(self, rows: Tensor) -> nn.Module:
        """The network for gradients with respect to its inputs, which are these rows of the latest call's."""
        return self.module.eval()

    @property
    def classifier(self) -> nn.Linear:
        return classifier_of(self.module)

    def plain(self) -> None:
        """Back to the network itself, which other weights or another device ask for."""
        self.engine = Plain(self.module)
        self.clear_output()

    def to(self, device: torch.device | str) -> Self:
        """Move the network; returns self."""
        self.module.to(device)
        self.plain()
        return self
