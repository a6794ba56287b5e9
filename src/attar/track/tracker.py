"""What a tracker is, and the table of those there are."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from attar.errors import AttarError
from attar.registry import Registry


@dataclass(frozen=True)
class Subject:
    """One training, as a tracker gets it.

    Attributes:
        id: 32 hexadecimal digits, the same when the training is resumed and like no other.
        job: the name of the run's folder, common to the teacher, the student and the student alone.
        name: which training of the job it is: "student", "alone", "teacher", "seed1/alone", ...
        folder: the training's own folder.
        job_folder: the run's folder.
        recipe: every key of the recipe, sections as dicts.
    """

    id: str
    job: str
    name: str
    folder: Path
    job_folder: Path
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class Epoch:
    """A finished epoch.

    Attributes:
        number: from 1.
        values: the numbers of its line in metrics.jsonl (an edge's loss is "terms/EDGE"), and images_per_second.
        time: when it ended, in seconds since 1970.
    """

    number: int
    values: Mapping[str, float]
    time: float


class Tracker(Protocol):
    """Follows one training. Whatever it raises, it is left out from then on and the training is as without it.

    Attributes:
        place: where its pages are, printed once for each run when training starts; "" for nothing.
    """

    place: str

    def start(self, subject: Subject, logged: int) -> int:
        """Begin, or go on where the subject's id is known.

        Args:
            subject: the training.
            logged: the last epoch that an earlier process has logged; 0 for none.

        Returns:
            The last epoch that the tracker has stored; the later ones are logged again, in order.
        """
        ...

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is finished."""
        ...

    def finish(self, results: Mapping[str, float] | None) -> None:
        """The end: scores and cost of each network ("student/top1"), or None where a stopped training may go on."""
        ...


@dataclass(frozen=True)
class TrackerInfo:
    """A tracker that a recipe can name.

    Attributes:
        name: what it is called in recipes.
        title: its full name.
        package: what it imports; "" for nothing that could be missing.
        extra: the extra of attar that installs the package.
        make: makes a tracker, one for each training.
    """

    name: str
    title: str
    package: str
    extra: str
    make: Callable[[], Tracker]


class Callback:
    """A plain function as a tracker: function(subject, epoch), after every epoch of every training."""

    place = ""

    def __init__(self, function: Callable[[Subject, Epoch], object]) -> None:
        self.function = function

    def start(self, subject: Subject, logged: int) -> int:
        self.subject = subject
        return logged

    def epoch(self, epoch: Epoch) -> None:
        self.function(self.subject, epoch)

    def finish(self, results: Mapping[str, float] | None) -> None:
        """Nothing: the function is for epochs."""


def _tracker(name: str, thing: Any) -> TrackerInfo:
    """A tracker's class, a tracker, or a function for `Callback`, that was given as an object."""
    if isinstance(thing, type):
        return TrackerInfo(name, name, "", "", thing)
    return TrackerInfo(name, name, "", "", lambda: thing if hasattr(thing, "epoch") else Callback(thing))


TRACKERS: Registry[TrackerInfo] = Registry("tracker", wrap=_tracker)
Make = TypeVar("Make", bound=Callable[[], Tracker])


def register_tracker(name: str, *, title: str, package: str = "", extra: str = "") -> Callable[[Make], Make]:
    """Class decorator that enters a tracker under a name; see `TrackerInfo` for the fields.

    >>> @register_tracker("printed", title="Lines on the screen")
    ... class Printed:
    ...     place = ""
    ...     def start(self, subject, logged):
    ...         return logged
    ...     def epoch(self, epoch):
    ...         print(epoch.number, epoch.values["loss"])
    ...     def finish(self, results):
    ...         pass
    >>> tracker_info("printed").make().epoch(Epoch(1, {"loss": 0.5}, time=0.0))
    1 0.5
    """

    def enter(make: Make) -> Make:
        TRACKERS.add(TrackerInfo(name, title, package, extra, make))
        return make

    return enter


def tracker_info(name: str) -> TrackerInfo:
    """The record of one tracker; an unknown name raises an error with the nearest one."""
    return TRACKERS[name]


def list_trackers(pattern: str = "*") -> list[str]:
    """The registered trackers whose name matches a shell pattern.

    >>> list_trackers("t*")
    ['tensorboard', 'trackio']
    """
    return TRACKERS.names(pattern)


def check_installed(info: TrackerInfo) -> None:
    """A tracker's package is there.

    Raises:
        AttarError: it is not; the message names the extra.
    """
    if not info.package:
        return
    spec = importlib.util.find_spec(info.package)
    # W&B makes folders called wandb, which Python would take for a package without files.
    if spec is None or spec.origin is None:
        raise AttarError(
            f"track={info.name} needs {info.package}, which is not installed; pip install 'attar[{info.extra}]'"
        )


def flat(tree: Mapping[str, Any], prefix: str = "", by: str = ".") -> dict[str, Any]:
    """Nested sections as one level of joined keys.

    >>> flat({"epochs": 10, "optim": {"lr": 0.2, "name": "sgd"}})
    {'epochs': 10, 'optim.lr': 0.2, 'optim.name': 'sgd'}
    """
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}{by}", by) if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves
