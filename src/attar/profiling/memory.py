"""How much memory a forward pass needs: the bytes of the tensors that are alive at once."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attar.batch import Inputs
from attar.metrics.accuracy import evaluating
from attar.profiling.cost import Sample, blank_images, run


def peak_memory(net: nn.Module, image_shape: Sample, batch: int = 1) -> int:
    """The most bytes of images and activations that are alive at one moment of a forward pass without gradients.

    The same on every device. Parameters and buffers are not counted, nor is what a kernel keeps to itself.

    Args:
        net: any network that takes (batch, *image_shape).
        image_shape: (C, H, W); or the inputs of one sample.
        batch: images in one pass.

    >>> peak_memory(nn.Conv2d(3, 8, 3, padding=1), (3, 4, 4))  # 4 bytes of (3 + 8) * 4 * 4
    704
    """
    images = blank_images(net, image_shape, batch)
    kept = [*net.parameters(), *net.buffers()]
    with evaluating(net), _Alive(images, kept) as alive:
        run(net, images)
    return alive.peak


class _Alive(TorchDispatchMode):
    """Follows every storage that an operator returns until the last tensor over it is gone."""

    def __init__(self, images: Inputs, kept: list[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in kept}
        for tensor in [images] if isinstance(images, Tensor) else images.values():
            self._follow(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        # Views and in-place results share a storage that is counted already.
        if storage._cdata in self._seen:
            return
        self._seen.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.now -= size
