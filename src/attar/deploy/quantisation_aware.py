"""A student trained to keep its logits in eight bits: distilled from itself in float, with rounding in each step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from attar.batch import Address
from attar.data import ImageSet, eval_batches
from attar.metrics.accuracy import output_of
from attar.models.copying import copied

# 7 of the 8 bits of weights, as the exporter has them: see `attar.models.graphs.quantise`.
WEIGHT_LEVELS, ACTIVATION_LEVELS = 64, 255
# Adam's rate, images of a step, and how many training images an epoch sees at most.
RATE, BATCH, IMAGES = 1e-4, 32, 2048
ROUNDED = (nn.Conv2d, nn.Linear)


class RoundedWeight(nn.Module):
    """A weight rounded to 7 bits, symmetric, one scale an output channel; its gradient passes through.

    A batch norm after the layer scales whole channels, so rounding before or after it is folded in is the same.

    >>> RoundedWeight()(torch.tensor([[1.0, 0.3, -0.101]])).mul(64).round().tolist()
    [[64.0, 19.0, -6.0]]
    """

    def forward(self, weight: Tensor) -> Tensor:
        scale = (weight.detach().flatten(1).abs().amax(1) / WEIGHT_LEVELS).clamp_min(1e-12)
        none = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(weight, scale, none, 0, -WEIGHT_LEVELS, WEIGHT_LEVELS)


class RoundedInputs:
    """The inputs of every convolution and linear layer of a network rounded to 8 bits, between the least and the
    largest value that each of them had on the calibration images.

    Args:
        net: its layers get hooks.
        images: what the ranges are read off.
    """

    def __init__(self, net: nn.Module, images: ImageSet) -> None:
        self.ranges: dict[nn.Module, tuple[float, float]] = {}
        self.reading = True
        layers = [module for module in net.modules() if isinstance(module, ROUNDED)]
        self.hooks = [layer.register_forward_pre_hook(self._rounded) for layer in layers]
        with torch.no_grad():
            for batch in eval_batches(images, BATCH):
                output_of(net, batch.inputs)
        self.reading = False

    def _rounded(self, layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = given[0]
        if self.reading:
            low, high = self.ranges.get(layer, (0.0, 0.0))
            self.ranges[layer] = (min(low, float(x.min())), max(high, float(x.max())))
            return given
        low, high = self.ranges[layer]
        scale = max(high - low, 1e-12) / ACTIVATION_LEVELS
        place = round(-low / scale)
        return (torch.fake_quantize_per_tensor_affine(x, scale, place, 0, ACTIVATION_LEVELS), *given[1:])

    def remove(self) -> None:
        """The layers as they were."""
        for hook in self.hooks:
            hook.remove()


def trained(
    net: nn.Module, train: ImageSet, calibration: ImageSet, epochs: int, imitation: nn.Module
) -> Iterator[nn.Module]:
    """The network after each epoch of quantisation-aware distillation from itself; batch norms keep their statistics.

    Every step rounds weights and activations.

    Args:
        net: the float student; it is not changed.
        train: training images; 2,048 of them are shown, not varied.
        calibration: images that activations' ranges are read off.
        epochs: how many.
        imitation: the loss of rounded outputs against the float ones, `task.imitate(1.0)` of the student's task.

    Yields:
        A float network whose weights lose little when they are rounded.
    """
    student = copied(net).eval().requires_grad_(True)
    rounded = RoundedInputs(student, calibration)
    layers = [module for module in student.modules() if isinstance(module, ROUNDED)]
    optimiser = torch.optim.Adam([one for one in student.parameters() if one.requires_grad], RATE)
    for epoch in range(epochs):
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", RoundedWeight())
        order = torch.randperm(len(train), generator=Address(0, epoch).generator("quantisation-aware"))[:IMAGES]
        for batch in eval_batches(train.subset(order), BATCH):
            with torch.no_grad():
                wanted = output_of(net, batch.inputs)
            loss = imitation(output_of(student, batch.inputs), wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        found = copied(student)
        for module in found.modules():
            module._forward_pre_hooks.clear()
        yield found.eval()
    rounded.remove()
