"""The Hugging Face Hub where it cannot be reached: what lies in its cache, without minutes of attempts."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


@contextmanager
def offline_if_unknown() -> Iterator[str]:
    """Take huggingface_hub offline while its server's name is not found here; gives that name, or "".

    It would try every file six times, with waits and a warning each. Behind a proxy the name need not be found.
    """
    try:
        from huggingface_hub import constants
    except ImportError:
        yield ""
        return
    host = urlsplit(constants.ENDPOINT).hostname or ""
    if constants.HF_HUB_OFFLINE or urllib.request.getproxies() or _is_found(host):
        yield ""
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield host
    finally:
        constants.HF_HUB_OFFLINE = False


def _is_found(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
