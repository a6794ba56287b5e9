"""trackio: a run for each training in a local database (TRACKIO_DIR), or at TRACKIO_SPACE_ID."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

from attar.track.tracker import Epoch, Subject, flat, register_tracker


@register_tracker("trackio", title="trackio", package="trackio", extra="trackio")
class Trackio:
    """A run of the project attar; trackio has no summary, so the results are a step after the last epoch."""

    place = ""

    def start(self, subject: Subject, logged: int) -> int:
        """Begin or resume; the database has the last step."""
        import trackio

        with contextlib.redirect_stdout(io.StringIO()):
            self.run: Any = trackio.init(
                project="attar",
                # Runs are known by their names.
                name=f"{subject.job}/{subject.name} {subject.id[:8]}",
                group=subject.job,
                config=flat(subject.recipe),
                resume="allow",
                embed=False,
            )
        self.place, self.after = "trackio show --project attar", subject.recipe["epochs"] + 1
        self.held: int = max(self.run._next_step - 1, 0)
        return self.held

    def epoch(self, epoch: Epoch) -> None:
        """One step of the run."""
        self.run.log(dict(epoch.values), step=epoch.number)

    def finish(self, results: Mapping[str, float] | None) -> None:
        """Hand over what waits, the results last."""
        import trackio

        if results and self.held < self.after:
            self.run.log({f"results/{name}": value for name, value in results.items()}, step=self.after)
        with contextlib.redirect_stdout(io.StringIO()):
            trackio.finish()
