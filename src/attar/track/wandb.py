"""Weights & Biases: a run for each training, grouped by job; WANDB_MODE=offline needs no account."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from attar.track.tracker import Epoch, Subject, register_tracker


@register_tracker("wandb", title="Weights & Biases", package="wandb", extra="wandb")
class WandB:
    """A run with the training's id in the project WANDB_PROJECT (attar); its files lie in the training's folder."""

    place = ""

    def start(self, subject: Subject, logged: int) -> int:
        """Begin or resume; online the server has the last step, offline only `logged` is known."""
        import wandb

        self.run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "attar"),
            group=subject.job,
            name=f"{subject.job}/{subject.name}",
            id=subject.id,
            resume="allow",
            config=dict(subject.recipe),
            dir=os.environ.get("WANDB_DIR", str(subject.folder)),
            # Beside a run of the caller's own.
            reinit="create_new",
            # The console is the training's.
            settings=wandb.Settings(console="off", silent=True),
        )
        if self.run.offline:
            return logged
        self.place = self.run.url or ""
        return max(self.run.starting_step - 1, 0)

    def epoch(self, epoch: Epoch) -> None:
        """One step of the run's history; the server drops a step that it has."""
        self.run.log({"epoch": epoch.number, **epoch.values}, step=epoch.number)

    def finish(self, results: Mapping[str, float] | None) -> None:
        """The results in the run's summary; a stopped run counts as failed until it is resumed."""
        if results:
            self.run.summary.update(dict(results))
        self.run.finish(exit_code=0 if results is not None else 1)
