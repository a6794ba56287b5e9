"""TensorBoard: an event file for each training in the run's folder, written anew from metrics.jsonl at each start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from attar.track.tracker import Epoch, Subject, register_tracker


# torch's writer, not tensorboardX: on a full disk that one's thread dies, and the training waits for it for ever.
@register_tracker("tensorboard", title="TensorBoard", package="tensorboard", extra="track")
class TensorBoard:
    """Scalars, and the recipe as text, in RUN/tensorboard/TRAINING."""

    place = ""

    def start(self, subject: Subject, logged: int) -> int:
        """Begin a new file that holds everything; the files of earlier processes go."""
        from torch.utils.tensorboard import SummaryWriter

        place = subject.job_folder / "tensorboard"
        self.place, self.last = f"tensorboard --logdir {place}", 0
        folder = place / subject.name
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        # A TensorBoard that is open forgets what it read from the earlier files.
        self.writer: Any = SummaryWriter(str(folder), purge_step=0)
        recipe = OmegaConf.to_yaml(OmegaConf.create(dict(subject.recipe)))
        self.writer.add_text("recipe", "\n".join(f"    {line}" for line in recipe.splitlines()), 0)
        self.writer.flush()
        return 0

    def epoch(self, epoch: Epoch) -> None:
        """One point of each curve."""
        for name, value in epoch.values.items():
            self.writer.add_scalar(name, value, epoch.number, epoch.time)
        self.writer.flush()
        self.last = epoch.number

    def finish(self, results: Mapping[str, float] | None) -> None:
        """The results as scalars at the last epoch."""
        for name, value in (results or {}).items():
            self.writer.add_scalar(f"results/{name}", value, self.last)
        self.writer.close()
