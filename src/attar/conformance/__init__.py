"""The conformance suite: what every method is held by, before a run and in tests."""

from attar.conformance.checks import check_method
from attar.conformance.probe import check

__all__ = ["check", "check_method"]
