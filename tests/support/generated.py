"""The generated parts of README.md and docs: the drawing of the rooms and the tables of methods.

`python tests/support/generated.py` writes them; tests/test_readme.py and tests/test_house.py hold them.
"""

from __future__ import annotations

import re
from pathlib import Path

from attar.methods import list_methods, method_info
from attar.report.catalogue import families_table, methods_table
from rooms import mermaid

ROOT = Path(__file__).parents[2]
README, METHODS = ROOT / "README.md", ROOT / "docs" / "methods" / "index.md"


def own_methods() -> list[str]:
    """The methods that come with the package; tests register others."""
    return [name for name in list_methods() if method_info(name).cls.__module__.startswith("attar.methods.")]


def families() -> str:
    """The README's list of methods."""
    return families_table(own_methods()).markdown()


def methods() -> str:
    """The table of all methods with their papers."""
    return methods_table(own_methods(), papers=True).markdown()


def main() -> None:
    """Write the parts in place."""
    text = README.read_text(encoding="utf-8")
    text = re.sub(r"```mermaid\n.*?```", lambda _: f"```mermaid\n{mermaid()}\n```", text, flags=re.S)
    text = re.sub(r"\| family \| methods \|\n(\|.*\n)*", lambda _: families() + "\n", text)
    README.write_text(text, encoding="utf-8")
    table = re.sub(r"\| method \|.*\n(\|.*\n)*", lambda _: methods() + "\n", METHODS.read_text(encoding="utf-8"))
    METHODS.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
