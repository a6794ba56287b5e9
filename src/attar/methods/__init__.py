"""Methods: one file a paper, their base, and the registry."""

from attar.methods import at, atsc, crd, dkd, dml, fitnet, kd, rkd, rsd, simkd, sokd, supervised, uakd, unikd  # noqa: F401, the methods register themselves
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
