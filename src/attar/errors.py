"""Mistakes a user can mend, in one line: what was wrong, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AttarError(ValueError):
    """A mistake in the input. The command line prints the message alone and exits with status 2."""


class PairError(AttarError):
    """A network, or two of them, that a method cannot use; a method adds which ones it can (`naming_pairs`).

    Attributes:
        reason: what was wrong, without what the method adds.
        runs_on: what it added; "" where the networks were not given to a method.
    """

    def __init__(self, reason: str, runs_on: str = "") -> None:
        super().__init__(f"{reason}; {runs_on}" if runs_on else reason)
        self.reason, self.runs_on = reason, runs_on


class UnknownNameError(AttarError):
    """A name that is in no table: misspelt, or registered in a file that was not imported."""


# So many names stand in a message.
MOST_LISTED = 40


class Stopped(BaseException):  # not an error: somebody asked the run to stop
    """The run was asked to stop; its state is saved. `except Exception` in a loop over runs does not catch it.

    Args:
        folder: the run's; none where the same command goes on.
    """

    def __init__(self, folder: str = "") -> None:
        super().__init__(*([folder] if folder else []))
        self.add_note(f"stopped; the state is saved{f': attar resume {folder}' if folder else ''}")


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line; its kind where it says nothing; of a system's error without the file.

    >>> first_line(AssertionError()), first_line(FileNotFoundError(2, "No such file or directory", "cat.jpg"))
    ('AssertionError', 'No such file or directory')
    """
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return error.strerror
    return str(error).strip().partition("\n")[0] or type(error).__name__


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not in a list of known ones, with the nearest of them.

    >>> str(unknown("method", "skod", ["kd", "sokd"]))
    "unknown method 'skod'; did you mean 'sokd'?"
    """
    choices = sorted(known)
    folded = {one.casefold(): one for one in reversed(choices)}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    if near:
        return UnknownNameError(f"unknown {kind} {name!r}; did you mean {folded[near[0]]!r}?")
    listed = ", ".join(choices[:MOST_LISTED]) if choices else "none"
    if len(choices) > MOST_LISTED:
        listed += f" and {len(choices) - MOST_LISTED} more (attar list)"
    return UnknownNameError(f"unknown {kind} {name!r}; known: {listed}")
