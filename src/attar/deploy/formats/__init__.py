"""File formats of a deployed network: one file each, entered in the registry in the order in which they are made.

They import torch only where they need it: `attar predict` labels images with an exported graph without it.
"""

from attar.deploy.formats import (  # noqa: F401, I001
    safetensors,
    pt2,
    onnx,
    onnx_int8,
    onnx_fp16,
    openvino,
    executorch,
    litert,
    coreml,
)
from attar.deploy.formats.registry import FORMATS, Format, list_formats, register_format

__all__ = ["FORMATS", "Format", "list_formats", "register_format"]
