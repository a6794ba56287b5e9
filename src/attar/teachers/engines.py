"""Inference engines for frozen teachers: batch norms folded, one type, optionally compiled."""

from __future__ import annotations

import torch
from torch import nn

from attar.accel.engine_spec import EngineSpec
from attar.batch import Inputs, first_tensor
from attar.knowledge import Output
from attar.models.copying import copied
from attar.models.surgery.folding import fold_norms
from attar.models.surgery.taps import observe


class Folded:
    """A copy with its batch norms folded into the convolutions, held in one type, so that nothing is cast on the way.

    Taps inside a folded pair (a convolution's output before its norm) are not what the network gives there: compare
    before use, as `attar.teachers.selection` does.

    Args:
        module: the network; it is copied.
        dtype: float32 or bfloat16.
        compiled: whether it goes through torch.compile, which a first call pays for.
        cut: whether a staged network ends at the last tap that is asked for, without logits.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)).eval()
    >>> images = torch.randn(2, 3, 4, 4)
    >>> torch.allclose(Folded(net, torch.float32)(images).logits, net(images), atol=1e-5)
    True
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype, compiled: bool = False, cut: bool = False) -> None:
        self.name = str(EngineSpec("compiled" if compiled else "folded", str(dtype).removeprefix("torch."), cut))
        self.dtype, self.cut = dtype, cut
        self._observe = torch.compile(observe, dynamic=False) if compiled else observe
        folded = fold_norms(copied(module).eval()).requires_grad_(False)
        self.module: nn.Module = folded.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: Inputs, taps: tuple[str, ...] = ()) -> Output:
        kind = first_tensor(images).device.type
        mixed = torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False):
            output = self._observe(self.module, self._typed(images), taps, not self.cut)
        # Without autocast, what reads the taps has float32 weights.
        kept = output.taps if mixed else {tap: value.float() for tap, value in output.taps.items()}
        return Output(output.logits.float(), kept)

    def _typed(self, images: Inputs) -> Inputs:
        """Numbers in the network's type; token ids and masks stay as they are."""
        if isinstance(images, dict):
            return {name: one.to(self.dtype) if one.is_floating_point() else one for name, one in images.items()}
        return images.to(self.dtype) if images.is_floating_point() else images
