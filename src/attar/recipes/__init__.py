"""Recipes that come with the package: a YAML file a protocol."""

from __future__ import annotations

from pathlib import Path

from attar.errors import unknown


def path(name: str) -> Path:
    """The file of a packaged recipe, by its name without .yaml."""
    files = {file.stem: file for file in Path(__file__).parent.glob("*.yaml")}
    if name not in files:
        raise unknown("recipe", name, files)
    return files[name]
