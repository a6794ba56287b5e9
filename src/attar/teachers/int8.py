"""8-bit frozen teachers of images, on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from attar.accel.engine_spec import INT8
from attar.data import ImageSet, Samples, eval_batches
from attar.errors import AttarError
from attar.extras import openvino_core
from attar.knowledge import Output
from attar.models.copying import copied
from attar.models.graphs.onnx import to_onnx
from attar.models.graphs.quantise import quantised
from attar.models.graphs.traced import WithTaps

CALIBRATION = 256


class Int8:
    """The teacher's logits and taps from 8-bit weights and activations, run by OpenVINO on all threads of torch's.

    Scales are read off the first training images, each channel's weights on their own; the file format and the
    quantiser are those of `attar export`. A network is quantised at the first call for its taps, in some ten seconds.
    A choice by itself takes it only where features are within 10 % of float32's, twice what other engines may be off.

    Args:
        module: the network, in eval mode.
        images: the training set; its first images calibrate.

    Raises:
        AttarError: openvino is missing, or the samples are no images; at a first call: another package of the `speed`
            extra is missing, or the network cannot be exported or quantised.
    """

    def __init__(self, module: nn.Module, images: Samples) -> None:
        if not isinstance(images, ImageSet):
            raise AttarError("an int8 teacher is for classified images")
        self._core = openvino_core("an int8 teacher")
        self._module, self._images = module, images
        self._graphs: dict[tuple[str, ...], bytes] = {}
        self._requests: dict[tuple[str, ...], Any] = {}
        self.name, self._cut = str(INT8), False

    def cut(self) -> Self:
        """The same network, ending at the last of its taps, without logits; it is not quantised again."""
        twin = copy.copy(self)
        twin.name, twin._cut, twin._requests = str(replace(INT8, cut=True)), True, {}
        return twin

    def __call__(self, images: Tensor, taps: Sequence[str] = ()) -> Output:
        wanted = tuple(taps)
        if wanted not in self._requests:
            self._requests[wanted] = self._compiled(wanted)
        found = self._requests[wanted].infer({0: images.float().contiguous().numpy()})
        # The request writes every output into the same memory.
        outputs = [torch.from_numpy(found[number]) for number in range(len(found))]
        logits = torch.empty(len(images), 0) if self._cut else outputs.pop(0).clone()
        return Output(logits, {tap: as_computed(value) for tap, value in zip(wanted, outputs, strict=True)})

    def _compiled(self, taps: tuple[str, ...]) -> Any:
        if taps not in self._graphs:
            self._graphs[taps] = self._quantised(taps)
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned, the runs of several processes would share the first core.
            "ENABLE_CPU_PINNING": False,
        }
        model = self._core.read_model(self._graphs[taps])
        if self._cut:
            import openvino

            model = openvino.Model(model.get_results()[1:], model.get_parameters())
        return self._core.compile_model(model, "CPU", settings).create_infer_request()

    def _quantised(self, taps: tuple[str, ...]) -> bytes:
        # OpenVINO misreads 8-bit weights that were exported channels last.
        module = copied(self._module).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        net = WithTaps(module, taps).eval()
        sample = self._images.subset(torch.arange(min(len(self._images), CALIBRATION)))
        example = next(iter(eval_batches(sample, 2))).images
        with torch.autocast("cpu", enabled=False):
            model = quantised(to_onnx(net, example), net, sample)
        return bytes(model.SerializeToString())


def as_computed(value: Tensor) -> Tensor:
    """A copy in the layout of a convolution's output, in the type that autocast computes in."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else value.dtype
    layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
    return value.to(dtype, copy=True, memory_format=layout)
