"""An exported network as a frozen teacher: logits, and nothing to learn or tap."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from attar.errors import AttarError, first_line
from attar.extras import require


def recorded(facts: Mapping[str, str], key: str) -> Any:
    """What a file's metadata hold under a key; None where they lack it or it is damaged."""
    try:
        return json.loads(facts[key])
    except (KeyError, ValueError, RecursionError):
        return None


class OnnxNet(nn.Module):
    """A network in an ONNX file, run by onnxruntime on the CPU; the logits come back to the images' device.

    The file has one input of images and its first output is the logits. It has no parameters and passes no gradient:
    it can only teach, and only methods that ask for logits.

    Args:
        file: the .onnx file.
        rows: which of its logits to keep, in this order; None: all.

    Attributes:
        facts: its metadata; of a file that Attar exported the classes and the images that it takes.

    Raises:
        AttarError: onnxruntime is missing, the file is missing or no network, or it has several inputs.
    """

    def __init__(self, file: str | Path, rows: Sequence[int] | None = None) -> None:
        super().__init__()
        self.file = Path(file)
        self.rows = None if rows is None else list(rows)
        self.input_shape: tuple[int, int, int] | None = None
        if not self.file.is_file():
            raise AttarError(f"{self.file} does not exist; give onnx/FILE.onnx")
        runtime = require("onnxruntime", "an ONNX network", "export")
        try:
            self.session: Any = runtime.InferenceSession(str(self.file), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own types, one for each way to be broken
            reason = first_line(error)
            raise AttarError(f"{self.file} is no network onnxruntime can run: {reason}") from None
        self.facts: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)
        given = self.session.get_inputs()
        if len(given) != 1 or given[0].type != "tensor(float)":
            found = [(one.name, one.type) for one in given]
            raise AttarError(f"{self.file} takes {found}; export a network of one float32 input, the images")
        self.images, shape = given[0].name, given[0].shape
        # A number is fixed, a name or None is free.
        self.fixed = shape[0] if shape and isinstance(shape[0], int) else None
        self.logits = self.session.get_outputs()[0].name

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        given = images.detach().float().cpu().contiguous()
        parts = given.split(self.fixed or len(given))
        logits = torch.cat([self._run(part) for part in parts]).to(images.device)
        return logits if self.rows is None else logits[:, self.rows]

    def _run(self, images: Tensor) -> Tensor:
        """The logits of a batch, which is filled up where the file fixes the number of images."""
        count = len(images)
        if self.fixed and count < self.fixed:
            images = torch.cat([images, images[-1:].expand(self.fixed - count, *images.shape[1:])])
        return torch.from_numpy(self.session.run([self.logits], {self.images: images.numpy()})[0])[:count]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A session cannot be copied and never changes.
        return copy.copy(self)
