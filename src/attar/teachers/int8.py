"""8-bit frozen teachers: logits only, CPU only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attar.accel.engine_spec import INT8
from attar.accel.openvino_core import openvino_core
from attar.data import ImageSet, Samples, eval_batches
from attar.errors import AttarError
from attar.knowledge import Output
from attar.models.copying import copied
from attar.models.graphs.onnx import to_onnx
from attar.models.graphs.quantise import quantised
from attar.models.graphs.traced import Deployed

CALIBRATION = 256


class Int8:
    """The teacher's logits from 8-bit weights and activations, run by OpenVINO with as many threads as torch has.

    Scales are read off the first training images, each channel's weights on their own; the file format and the
    quantiser are those of `attar export`.

    Args:
        module: the network, in eval mode.
        images: the training set; its first images calibrate.

    Raises:
        AttarError: a package of the `speed` extra is missing, the samples are no images, or the network cannot be
            exported or quantised.
    """

    name = str(INT8)

    def __init__(self, module: nn.Module, images: Samples) -> None:
        if not isinstance(images, ImageSet):
            raise AttarError("an int8 teacher is for classified images")
        core = openvino_core("an int8 teacher")
        # OpenVINO misreads 8-bit weights that were exported channels last.
        module = copied(module).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        net = Deployed(module, list(images.mean), list(images.std), bake=False)
        sample = images.subset(torch.arange(min(len(images), CALIBRATION)))
        example = next(iter(eval_batches(sample, 2))).images
        with torch.autocast("cpu", enabled=False):
            model = quantised(to_onnx(net.eval(), example), net, sample)
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned, the runs of several processes would share the first core.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
        self._request = compiled.create_infer_request()

    def __call__(self, images: Tensor, taps: Sequence[str] = ()) -> Output:
        if taps:
            raise AttarError(f"an int8 teacher has no taps ({', '.join(taps)}); set teacher.precision=bfloat16")
        logits = self._request.infer({0: images.float().contiguous().numpy()})[0]
        # The request writes every output into the same memory.
        return Output(torch.from_numpy(logits.copy()))
