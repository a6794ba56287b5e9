"""What several runs choose by timing, in one file: the first that needs a choice makes it, all others read it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from attar.errors import AttarError
from attar.files import write_json
from attar.records import damaged, read_json, shortened
from attar.safety.locks import held

FILE = "choices.json"
WAIT_SECONDS, POLL_SECONDS = 30.0, 0.02
REMEDY = "delete it, and what is not finished chooses again"


def _count(value: Any) -> bool:
    return type(value) is int and value > 0


def _share(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"threads", "jobs", "line"}
        and _count(value["threads"])
        and _count(value["jobs"])
        and isinstance(value["line"], str)
    )


def _precision(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"precision", "reason"}
        and value["precision"] in ("float32", "bfloat16")
        and isinstance(value["reason"], str)
    )


# Which values a choice may have, by the beginning of its name.
KINDS: dict[str, Callable[[Any], bool]] = {
    "precision": _precision,
    "threads": _count,
    "share": _share,
    "compiled": lambda value: isinstance(value, bool),
    "engine": lambda value: isinstance(value, dict),
}


class Choices:
    """Choices by name, kept in a file.

    A suite keeps those of all its runs, so that no table mixes precisions; a run that repeats another one's recipe
    begins with the other's.

    Args:
        file: where they are; None: every run chooses for itself.

    >>> Choices().once("precision", "", lambda: "float32")
    'float32'
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file

    def once(self, what: str, of: str, choose: Callable[[], Any]) -> Any:
        """A choice, made now where none is kept.

        Args:
            what: its kind ("precision", "engine 1", "compiled").
            of: for which runs it holds; "" for all. A choice kept for all holds for these too.
            choose: makes it: plain JSON. Of two processes that choose at the same time, the first decides.
        """
        if self.file is None:
            return choose()
        key = f"{what} of {of}" if of else what
        kept = self._read()
        for name in (key, what):
            if name in kept:
                return kept[name]
        chosen = choose()
        with _alone(self.file.with_name(f".{self.file.name}.lock")):
            kept = self._read()
            if key not in kept:
                write_json(self.file, {**kept, key: chosen})
        return kept.get(key, chosen)

    def _read(self) -> dict[str, Any]:
        assert self.file is not None
        if not self.file.exists():
            return {}
        tree = read_json(self.file, REMEDY)
        if not isinstance(tree, dict):
            raise damaged(self.file, "it is no object", REMEDY)
        for name, value in tree.items():
            holds = next((holds for kind, holds in KINDS.items() if name == kind or name.startswith(f"{kind} ")), None)
            if holds is not None and not holds(value):
                raise damaged(self.file, f"{name} is {shortened(value)}", REMEDY)
        return tree


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock file; another process holds it for the time of a write only."""
    end = time.monotonic() + WAIT_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held(lock))
                break
            except AttarError:
                if time.monotonic() > end:
                    raise
            time.sleep(POLL_SECONDS)
        yield
