"""Passes what a job's trainings have written on to its trackers, once, even if the process or a tracker fails."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attar.errors import AttarError
from attar.files import write_json
from attar.plugins import naming_imports
from attar.records import read_json
from attar.track.tracker import Epoch, Subject, Tracker, check_installed, flat, tracker_info

Log = Callable[[str], None]
Record = Mapping[str, Any]
# What trackers need over a resume and metrics.jsonl does not hold: the id, times, what each has logged.
NOTES = "tracking.json"


class Tracking:
    """The trackers of a job.

    Args:
        names: registered trackers.
        folder: the job's folder.

    Raises:
        AttarError: a tracker is unknown, with the files that the run imported; or its package is not installed.

    >>> Tracking(["tensorbord"], Path("runs/kd"))
    Traceback (most recent call last):
    attar.errors.UnknownNameError: unknown tracker 'tensorbord'; did you mean 'tensorboard'?
    """

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        with naming_imports(folder):
            self.trackers = [tracker_info(name) for name in dict.fromkeys(names)]
        for info in self.trackers:
            check_installed(info)
        self.folder = folder
        self._lines: set[str] = set()

    def follow(self, folder: Path, recipe: Record, records: Iterable[Record], log: Log) -> Following:
        """Follow one training of the job, a context manager.

        Args:
            folder: the training's folder.
            recipe: its recipe as nested dicts.
            records: the epochs that are finished already, as in metrics.jsonl.
            log: prints a line.
        """
        notes = Notes(folder / NOTES)
        name = "student" if folder == self.folder else folder.relative_to(self.folder).as_posix()
        subject = Subject(notes.id, self.folder.resolve().name, name, folder, self.folder, recipe)
        make = {info.name: info.make for info in self.trackers if info.name not in notes.done}
        return Following(make, subject, list(records), notes, self._log_once(log), log)

    def _log_once(self, log: Log) -> Log:
        def once(line: str) -> None:
            if line not in self._lines:
                self._lines.add(line)
                log(line)

        return once


@dataclass
class Notes:
    """What is kept for the trackers in a training's folder.

    Attributes:
        file: where.
        id: the training's name in the world.
        logged: the last epoch that each tracker has logged.
        done: the trackers that have the results.
        epochs: time and speed of each epoch, by its number.
    """

    file: Path
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    logged: dict[str, int] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    epochs: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.file.exists():
            return
        remedy = "delete it to be tracked as another run"
        held = read_json(self.file, remedy)
        if not isinstance(held, dict) or any(type(held.get(key)) is not kind for key, kind in _KINDS.items()):
            raise AttarError(f"{self.file} is damaged; {remedy}")
        vars(self).update({key: held[key] for key in _KINDS})

    def keep(self) -> None:
        """Write the file."""
        write_json(self.file, {key: value for key, value in vars(self).items() if key != "file"})


_KINDS = {"id": str, "logged": dict, "done": list, "epochs": dict}


class Following:
    """Trackers that follow one training, from `Tracking.follow`.

    A tracker that raises is left out with a warning until the training is resumed.
    """

    def __init__(
        self,
        make: dict[str, Callable[[], Tracker]],
        subject: Subject,
        records: list[Record],
        notes: Notes,
        announce: Log,
        log: Log,
    ) -> None:
        self.make, self.subject, self.records, self.notes = make, subject, records, notes
        self.announce, self.log = announce, log
        self.trackers: dict[str, Tracker] = {}

    def __enter__(self) -> Following:
        # The id is on the disk before a tracker gets it.
        if self.make and self._keep():
            for name, make in self.make.items():
                self._try(name, self._catch_up, name, make)
        return self

    def __exit__(self, *_: object) -> None:
        """Trackers without results are ended as those of a training that may be resumed."""
        for name, tracker in list(self.trackers.items()):
            self._try(name, tracker.finish, None)

    def epoch(self, record: Record, images_per_second: float) -> None:
        """Log a finished epoch, whose line is in metrics.jsonl already; one that was logged before is skipped."""
        number = record["epoch"]
        if not self.trackers or number <= len(self.records):
            return
        self.records.append(record)
        self.notes.epochs[str(number)] = {"time": time.time(), "images_per_second": images_per_second}
        if not self._keep():
            return
        for name, tracker in list(self.trackers.items()):
            self._try(name, self._pass_on, name, tracker, record)
        if self.trackers:
            self._keep()

    def finish(self, results: Mapping[str, float]) -> None:
        """The training is deployed and measured."""
        if not self.trackers:
            return
        for name, tracker in list(self.trackers.items()):
            if self._try(name, tracker.finish, dict(results)):
                self.notes.done.append(name)
                del self.trackers[name]
        self._keep()

    def _catch_up(self, name: str, make: Callable[[], Tracker]) -> None:
        """Start a tracker and log the epochs it does not have."""
        self.trackers[name] = tracker = make()
        held = tracker.start(self.subject, self.notes.logged.get(name, 0))
        if tracker.place:
            self.announce(f"tracked by {tracker_info(name).title} ({tracker.place})")
        for record in self.records:
            if record["epoch"] > held:
                self._pass_on(name, tracker, record)

    def _pass_on(self, name: str, tracker: Tracker, record: Record) -> None:
        number = record["epoch"]
        noted = dict(self.notes.epochs.get(str(number), {}))
        when = noted.pop("time", time.time())
        # A dict of its own: what a tracker does to it must not reach the run.
        values = flat({key: value for key, value in record.items() if key != "epoch"}, by="/") | noted
        tracker.epoch(Epoch(number, values, when))
        self.notes.logged[name] = number

    def _keep(self) -> bool:
        """Write the notes; if the disk refuses, nothing more is logged, because the next process would log it again."""
        try:
            self.notes.keep()
            return True
        except Exception as error:
            self._leave_out(", ".join(self.make), error)
            self.trackers.clear()
            return False

    def _try(self, name: str, act: Callable[..., object], *arguments: object) -> bool:
        """Whether a tracker did its part."""
        try:
            act(*arguments)
            return True
        except Exception as error:
            self._leave_out(name, error)
            self.trackers.pop(name, None)
            return False

    def _leave_out(self, names: str, error: Exception) -> None:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        self.log(f"warning: {names} is left out until this run is resumed ({line[:200]})")
