"""Methods: one file a paper, their base, and the registry."""

from attar.methods import (  # noqa: F401, the methods register themselves
    abkd,
    at,
    atsc,
    cc,
    crd,
    dist,
    dkd,
    dml,
    eakd,
    ekd,
    fitnet,
    kd,
    ldrld,
    lskd,
    nkd,
    normkd,
    nst,
    pkt,
    rkd,
    rld,
    rsd,
    simkd,
    skd,
    sokd,
    sp,
    supervised,
    ttm,
    uakd,
    unikd,
    wttm,
)
from attar.methods.base import Composed, Method, Offline
from attar.methods.registry import MethodInfo, create_method, list_methods, method_info, register

__all__ = [
    "Composed",
    "Method",
    "MethodInfo",
    "Offline",
    "create_method",
    "list_methods",
    "method_info",
    "register",
]
