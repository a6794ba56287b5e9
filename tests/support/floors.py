"""Prints the lowest version of each package that pyproject.toml allows, as constraints for pip."""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def floors() -> list[str]:
    """What the core needs at least, as "name==version"."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", one) for one in project["dependencies"]]
    return [f"{one[1]}=={one[2]}" for one in found if one]


if __name__ == "__main__":
    print("\n".join(floors()))
