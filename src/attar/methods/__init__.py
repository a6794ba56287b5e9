"""Methods: one file a paper, a registry, and the conformance suite they all pass."""

from attar.methods import at, atsc, crd, dkd, dml, fitnet, kd, rkd, rsd, simkd, sokd, supervised, uakd, unikd  # noqa: F401, the methods register themselves
from attar.methods.base import Method, Offline
from attar.methods.composed import Composed
from attar.methods.conformance import check_method
from attar.methods.probe import check
from attar.methods.registry import MethodInfo, create_method, list_methods, method_info, register

__all__ = [
    "Composed",
    "Method",
    "MethodInfo",
    "Offline",
    "check",
    "check_method",
    "create_method",
    "list_methods",
    "method_info",
    "register",
]
