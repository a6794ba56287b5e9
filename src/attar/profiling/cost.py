"""What a network costs: parameters, multiply-accumulates, latency, bytes on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attar.batch import Inputs, first_tensor
from attar.errors import AttarError, first_line
from attar.metrics.accuracy import evaluating
from attar.models.libraries.onnx_model import OnnxNet

Measured = TypeVar("Measured")


# Passes of a network that are timed, and those before them.
REPEATS, WARMUP = 30, 5


class Latency(NamedTuple):
    """Milliseconds of one forward pass: the median, and the distance between the quartiles."""

    median: float
    spread: float


@dataclass(frozen=True)
class Cost:
    """What `cost` found: parameters, multiply-accumulates and milliseconds of one image, bytes as safetensors.

    None stands where something could not be measured.
    """

    parameters: int
    macs: int | None
    latency_ms: float | None
    latency_spread_ms: float | None
    bytes: int | None

    @property
    def complete(self) -> bool:
        """Whether everything was measured."""
        return None not in (self.macs, self.latency_ms, self.latency_spread_ms, self.bytes)


def parameters(net: nn.Module) -> int:
    """How many numbers the network learns; shared ones count once.

    >>> parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in net.parameters())


# One sample: the shape of a blank image, or inputs as they are.
Sample = tuple[int, ...] | Inputs


def macs(net: nn.Module, image_shape: Sample) -> int:
    """Multiply-accumulates of one image through convolutions and matrix products: half of torch's FLOPs.

    Those of attention and of recurrent layers count.

    Args:
        net: any network that takes (1, *image_shape).
        image_shape: (C, H, W); or the inputs of one sample.

    >>> macs(nn.Conv2d(3, 8, 3, padding=1), (3, 4, 4))  # 8 * 3 * 9 * 16
    3456
    """
    counter = FlopCounterMode(display=False, custom_mapping=RECURRENT)
    with evaluating(net), _without_gradients(net), _counted_attention(), counter:
        run(net, blank_images(net, image_shape, 1))
    return counter.get_total_flops() // 2


def _layer_flops(inputs: torch.Size, of_inputs: torch.Size, of_state: torch.Size, *rest: Any, **named: Any) -> int:
    """FLOPs of one layer of `nn.LSTM` in one direction."""
    return 2 * inputs[0] * inputs[1] * (of_inputs.numel() + of_state.numel())


def _layers_flops(inputs: torch.Size, weights: Sequence[torch.Size], *rest: Any, **named: Any) -> int:
    """FLOPs of all layers of a recurrent module; biases are among the weights."""
    return 2 * inputs[0] * inputs[1] * sum(one.numel() for one in weights if len(one) == 2)


# Fused recurrent layers, of a CPU and of a GPU, which torch's counter does not know.
RECURRENT = {torch.ops.aten.mkldnn_rnn_layer: _layer_flops, torch.ops.aten._cudnn_rnn: _layers_flops}


@contextmanager
def _counted_attention() -> Iterator[None]:
    """Attention as matrix products: torch's counter does not see its fused forms on a CPU."""
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def _without_gradients(net: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient: torch's counter stops at a token that is expanded while it does."""
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    try:
        net.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad = True


def latency(
    net: nn.Module,
    image_shape: Sample,
    batch: int = 1,
    repeats: int | None = None,
    warmup: int | None = None,
    dtype: torch.dtype | None = None,
) -> Latency:
    """The time of one forward pass in eval mode, on the device the network is on.

    Args:
        net: any network that takes (batch, *image_shape).
        image_shape: (C, H, W); or the inputs of one sample.
        batch: images in one pass.
        repeats: passes that are timed, two or more; None: `REPEATS`, 30.
        warmup: passes before them; None: `WARMUP`, 5.
        dtype: of the images; None: of the network's first parameter, float32 where it has none.

    Raises:
        AttarError: fewer than two repeats.

    >>> latency(nn.Linear(4, 4), (4,)).median > 0
    True
    """
    return latencies([net], image_shape, batch, repeats, warmup, dtype)[0]


def latencies(
    nets: Sequence[nn.Module],
    image_shape: Sample,
    batch: int = 1,
    repeats: int | None = None,
    warmup: int | None = None,
    dtype: torch.dtype | None = None,
) -> list[Latency]:
    """As `latency`, of several networks, interleaved, so that their ratios hold on a machine whose speed drifts.

    >>> len(latencies([nn.Linear(4, 4), nn.Linear(4, 2)], (4,)))
    2
    """
    repeats, warmup = REPEATS if repeats is None else repeats, WARMUP if warmup is None else warmup
    if repeats < 2:
        raise AttarError(f"repeats is {repeats}; a median and a spread need at least 2")
    shown = [(net, blank_images(net, image_shape, batch, dtype)) for net in nets]
    with ExitStack() as modes:
        for net in nets:
            modes.enter_context(evaluating(net))
        for net, images in shown * warmup:
            run(net, images)
        times = [[_milliseconds(net, images) for net, images in shown] for _ in range(repeats)]
    quarters = [quantiles(of_one, n=4, method="inclusive") for of_one in zip(*times, strict=True)]
    return [Latency(median, third - first) for first, median, third in quarters]


def file_size(net: nn.Module) -> int:
    """Bytes of the network's state saved as safetensors, shared tensors once; of an ONNX file those of the file.

    >>> file_size(nn.Linear(3, 2)) > 8 * 4
    True
    """
    if (exported := next((one for one in net.modules() if isinstance(one, OnnxNet)), None)) is not None:
        return exported.file.stat().st_size
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        save_model(net, str(path))
        return path.stat().st_size


def cost(net: nn.Module, image_shape: Sample, failed: Callable[[str], object] | None = None) -> Cost:
    """Everything about a network's cost at batch 1.

    Args:
        net: any network that takes (1, *image_shape).
        image_shape: (C, H, W); or the inputs of one sample.
        failed: called with a line for each part that cannot be measured, which is None then; without it, that raises.

    >>> cost(nn.Linear(4, 2, bias=False), (4,)).macs
    8
    """

    def tried(what: str, measure: Callable[[], Measured]) -> Measured | None:
        try:
            return measure()
        except Exception as error:  # a network may do anything
            if failed is None:
                raise
            failed(f"{what} not measured: {first_line(error)}")
            return None

    median, spread = tried("latency", lambda: latency(net, image_shape)) or (None, None)
    operations = tried("multiply-accumulates", lambda: macs(net, image_shape))
    return Cost(parameters(net), operations, median, spread, tried("file size", lambda: file_size(net)))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch's operators on so many threads; afterwards on as many as before.

    >>> with threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def blank_images(net: nn.Module, image_shape: Sample, batch: int, dtype: torch.dtype | None = None) -> Inputs:
    """Blank images on the device of the network's first parameter, in its type; or the sample given, so many times."""
    like = next(net.parameters(), torch.zeros(()))
    if isinstance(image_shape, tuple):
        own = getattr(net, "input_dtype", None) or like.dtype
        return torch.zeros(batch, *image_shape, dtype=own, device=like.device).to(dtype)
    rows = torch.zeros(batch, dtype=torch.long)

    def repeated(tensor: Tensor) -> Tensor:
        found = tensor[rows].to(like.device)
        return found.to(dtype or like.dtype) if found.is_floating_point() else found

    if isinstance(image_shape, Tensor):
        return repeated(image_shape)
    return {name: repeated(tensor) for name, tensor in image_shape.items()}


def run(net: nn.Module, inputs: Inputs) -> object:
    """One forward pass; inputs with names go in by name."""
    return net(**inputs) if isinstance(inputs, dict) else net(inputs)


def _milliseconds(net: nn.Module, images: Inputs) -> float:
    device = first_tensor(images).device
    _wait(device)
    start = time.perf_counter()
    run(net, images)
    _wait(device)
    return (time.perf_counter() - start) * 1e3


def _wait(device: torch.device) -> None:
    """Until an accelerator has done what was asked of it; the CPU never lags."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
