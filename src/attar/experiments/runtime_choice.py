"""How a job computes (precision, threads, processes, engines): chosen once, read back on resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from attar.accel.runtime import Runtime, find_device
from attar.accel.threads import Share, best_share, processes_with_room, wanted_share
from attar.distributed.team import team
from attar.errors import AttarError
from attar.experiments.given_objects import Given
from attar.experiments.kept_choices import Choices
from attar.experiments.runtime_record import other_threads, read_runtime, write_runtime
from attar.experiments.training import Training
from attar.profiling import threads
from attar.recipe import Recipe


@dataclass
class RuntimeChoice:
    """What a job computes with. Whatever is chosen by timing is chosen once and recorded in the job's folder.

    Attributes:
        recipe: the job's.
        folder: where the choice is recorded.
        choices: those that other runs of the suite share.
        training: builds the first seed's training of the student, of the student alone with alone=True.
        apart: whether trainings may run in processes of their own.
        workers_read_files: whether the loader has processes of its own, so that trainings get none.
        output: prints a line.
    """

    recipe: Recipe
    folder: Path
    choices: Choices
    training: Callable[..., Training]
    apart: bool
    workers_read_files: bool
    output: Callable[[str | None], None]

    def choose(self) -> Runtime:
        """One precision for every training of the job, chosen when it first started and kept when it is resumed."""
        recorded, _ = read_runtime(self.folder, find_device(self.recipe.device))
        if recorded:
            self.output(other_threads(recorded.teacher_threads))
            # With the threads as they were, how many trainings run at a time changes no result.
            return replace(recorded, jobs=self._wanted_jobs) if self.recipe.jobs else recorded
        here = self.choices.once("threads", "", torch.get_num_threads)
        self.output(other_threads(here))
        with threads(here):
            runtime = self.precision()
            share = self.share(runtime)
        reason = "\n".join(filter(None, [runtime.reason, share.line]))
        runtime = replace(runtime, threads=share.threads, jobs=share.jobs, teacher_threads=here, reason=reason)
        write_runtime(self.folder, runtime, engines=False)
        self.output(runtime.reason)
        optim = self.recipe.optim
        rate = f"{optim.lr:g}" + " (a range test around it follows)" * optim.range_test
        self.output(f"{optim.name}: lr {rate}, weight decay {optim.weight_decay:g}, schedule {optim.schedule}")
        return runtime

    def precision(self) -> Runtime:
        """Device and precision of the first seed's student, as chosen before or found by trying."""
        return self.training().precision(self.choices)

    def choose_engines(self, runtime: Runtime) -> Runtime:
        """Chosen once the teachers are trained, on their final weights, and kept when the job is resumed."""
        recorded, complete = read_runtime(self.folder, runtime.device)
        if recorded and complete:
            return runtime
        with threads(runtime.threads or torch.get_num_threads()):
            chosen = self.training().engined(runtime, self.choices)
        write_runtime(self.folder, chosen, engines=True)
        self.output(chosen.reason[len(runtime.reason) :].lstrip("\n"))
        return chosen

    def share_of(self, copies: int, apart: bool) -> Share:
        """How so many jobs like this one would best share the processor, in processes or not, found by trying."""
        return self._best_share(self.precision(), apart, copies)

    def share(self, runtime: Runtime) -> Share:
        """How the trainings of this job share the processor."""
        here = torch.get_num_threads()
        if self._wanted_jobs > 1:
            return wanted_share(self._wanted_jobs, here)
        if team().size > 1:
            return Share(here)
        apart = self.apart and self.recipe.jobs is None
        found = self.choices.once("share", "", lambda: asdict(self._best_share(runtime, apart)))
        return Share(**found) if apart else replace(Share(**found), jobs=1)

    def _best_share(self, runtime: Runtime, apart: bool, copies: int = 1) -> Share:
        here, training = torch.get_num_threads(), self.training()
        if runtime.device.type != "cpu" or here == 1:  # one thread has nothing to share
            return Share(here)
        trainings = [training, self.training(alone=True)] if self.recipe.alone == "train" else [training]

        def seconds_with(count: int) -> list[float]:
            with threads(count):
                return [one.step_seconds(runtime) for one in trainings] * self.recipe.seeds * copies

        most = processes_with_room() if apart and not self.workers_read_files else 1
        return best_share(seconds_with, here, self.recipe.epochs * len(training.loader), most)

    @property
    def _wanted_jobs(self) -> int:
        """As many as the recipe gives, but no more than there are trainings."""
        return min(self.recipe.jobs or 1, self.recipe.seeds * (1 + (self.recipe.alone == "train")))


def check_jobs(recipe: Recipe, given: Given) -> None:
    """Raise where a recipe wants parallel trainings that cannot be.

    Raises:
        AttarError: they cannot.
    """
    jobs = recipe.jobs or 1
    if jobs > 1 and team().size > 1:
        raise AttarError(f"jobs={jobs}: torchrun's processes train one network together; leave jobs out")
    if jobs > 1 and given.any:
        raise AttarError(f"jobs={jobs}: objects stay in this process; give names and files, or leave jobs out")
