"""How much memory a pass needs: the bytes of the tensors that are alive at once."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attar.metrics.accuracy import evaluating
from attar.models.copying import copied
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
    given = [images] if isinstance(images, Tensor) else images.values()
    with evaluating(net), Alive(kept, given) as alive:
        run(net, images)
    return alive.peak


def held_memory(net: nn.Module, image_shape: Sample) -> int:
    """The bytes of activations that a training step holds for its backward pass, a sample.

    Args:
        net: any network that takes (batch, *image_shape); it and the random state are as before afterwards.
        image_shape: (C, H, W); or the inputs of one sample.

    >>> held_memory(nn.Conv2d(3, 8, 3, padding=1), (3, 4, 4))  # 4 bytes of (3 + 8) * 4 * 4
    704
    """
    batch, net = 2, copied(net).train()  # of one sample, a batch norm of 1x1 maps has no variance
    images = blank_images(net, image_shape, batch)
    kept = [*net.parameters(), *net.buffers()]
    given = [images] if isinstance(images, Tensor) else images.values()
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), Alive(kept, given) as alive:
        output = run(net, images)
        held = alive.now
    del output
    return held // batch


class Alive(TorchDispatchMode):
    """Within it, every storage that an operator returns is followed until the last tensor over it is gone.

    Args:
        kept: tensors that were there before and are not counted.
        counted: tensors that were there and are.

    Attributes:
        now: the bytes that are alive.
        peak: the most there were at one moment.

    >>> import torch
    >>> numbers = torch.zeros(10, requires_grad=True)
    >>> with Alive([numbers]) as alive:  # the exponentials are kept for the backward pass
    ...     total = numbers.exp().sum()
    >>> alive.now, alive.peak
    (44, 44)
    """

    def __init__(self, kept: Iterable[Tensor], counted: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in kept}
        for tensor in counted:
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
