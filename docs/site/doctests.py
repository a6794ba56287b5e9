"""Docstrings end in bare doctests; the site shows them as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

# A paragraph that begins with a prompt.
DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", flags=re.MULTILINE)


class Doctests(griffe.Extension):
    """Put every doctest between code fences before the docstring is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
