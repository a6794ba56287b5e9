"""Deployment: a trained student as files that others can load.

The names below are loaded when they are first used: `attar.deploy.predict` must start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attar.deploy.export import Export, Exported, export_student, read_export
    from attar.deploy.formats import Format, list_formats, register_format
    from attar.deploy.hub import HubStudent
    from attar.deploy.package import load, load_card, load_facts, save
    from attar.deploy.student import Student
    from attar.deploy.trained_run import Trained, find_trained

_HOMES = {
    "attar.deploy.export": ("Export", "Exported", "export_student", "read_export"),
    "attar.deploy.formats": ("Format", "list_formats", "register_format"),
    "attar.deploy.hub": ("HubStudent",),
    "attar.deploy.student": ("Student",),
    "attar.deploy.trained_run": ("Trained", "find_trained"),
    "attar.deploy.package": ("load", "load_card", "load_facts", "save"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [
    "Export",
    "Exported",
    "Format",
    "HubStudent",
    "Student",
    "Trained",
    "export_student",
    "find_trained",
    "list_formats",
    "load",
    "load_card",
    "load_facts",
    "read_export",
    "register_format",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'attar.deploy' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
