"""OpenVINO's core: one for the process, never given up."""

from __future__ import annotations

import functools
from typing import Any

from attar.extras import require


def openvino_core(purpose: str) -> Any:
    """The process's `openvino.Core`.

    Each core gives its thread a stack for signal handlers and later restores the one it found. Of two cores, the one
    made first is often given up first; the second then restores a stack that is freed, and the next Ctrl-C or SIGTERM
    ends the process with a segmentation fault, where a run would be saved (its CPU plugin, OpenVINO 2026.4).

    Args:
        purpose: what needs OpenVINO, for the message.

    Raises:
        AttarError: OpenVINO is not installed.
    """
    require("openvino", purpose, "speed")
    return _core()


@functools.cache
def _core() -> Any:
    import openvino

    return openvino.Core()
