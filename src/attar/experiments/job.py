"""The main job: a teacher, the student alone and the student distilled, over one seed or several, and the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from attar.accel.allocator import keep_freed_memory
from attar.accel.runtime import Runtime, environment, find_device
from attar.accel.threads import Share, best_share, processes_with_room, wanted_share
from attar.batch import Address
from attar.data import FileSet
from attar.deploy import load
from attar.distributed.team import sign, surviving, team
from attar.errors import AttarError, Stopped
from attar.experiments.baseline import earlier_baseline
from attar.experiments.build import Given, Parts, seeded
from attar.experiments.input_warnings import exchanged_classes, overlap, probabilities, weak_teacher
from attar.experiments.parallel import LOCK, LOG, TrainingSpec, side_by_side
from attar.experiments.shared_resources import SharedResources
from attar.experiments.training import Result, Training, finished, measure
from attar.files import write_json, write_text
from attar.methods import create_method, method_info
from attar.models.copying import copied
from attar.plugins import record_imports
from attar.profiling import latencies, threads
from attar.recipe import MethodRecipe, ModelRecipe, Recipe, TeacherRecipe, read_recipe, to_yaml
from attar.report.drawing import svg
from attar.report.run_files import read_run
from attar.report.run_page import write_report
from attar.report.summary import Summary
from attar.report.thumbnails import save_pictures
from attar.safety.locks import held, locked
from attar.track import Tracking


@dataclass
class Job:
    """A recipe with everything it names built and checked, and nothing written yet.

    Attributes:
        recipe: what to do.
        folder: where.
        console: where to print.
        given: networks and data that were handed over as objects.
        shared: what it shares with other jobs of this process.
        beside: called first in every process that trains beside this one; None: no process is started unasked, because
            what the caller has registered would be missing there.
    """

    recipe: Recipe
    folder: Path
    console: Console = field(default_factory=Console)
    given: Given = field(default_factory=Given)
    shared: SharedResources = field(default_factory=SharedResources)
    beside: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        self.team = team()
        self._check_jobs()
        if not self.team.leader:
            self.console = Console(quiet=True)
        self.tracking = Tracking(self.recipe.track, self.folder)
        self.parts = Parts(self.recipe, self.given, self.shared.images_of(self.recipe.data))
        with self.team.leader_first():
            self.splits = self.parts.splits(self.recipe.seed)
        self.engines = self.shared.engines(self.splits.train)
        self.teachers = self.parts.teachers()
        self.teacher_predictions = self.shared.teacher_predictions(self.teachers[0]) if self.teachers else None
        self._prepare_teachers()
        # The first seed's training is built now, so that every mistake shows before a file is written.
        first = self._training(self.recipe.seed)
        first.try_a_batch()
        self.earlier = self._earlier_baselines()

    def run(self) -> Summary:
        """Train what is not trained yet and write the report.

        Raises:
            Stopped: the process was asked to stop; it names the folder to resume.
        """
        try:
            with surviving(), locked(self.folder) if self.team.leader else nullcontext():
                return self._run()
        except Stopped:
            raise Stopped(str(self.folder)) from None

    def _run(self) -> Summary:
        if self.team.leader:
            sign(self.folder)
            write_text(self.folder / "recipe.yaml", to_yaml(self.recipe))
            record_imports(self.folder)
        keep_freed_memory()
        if self.team.leader:
            self._warn([*self.splits.notes, overlap(self.splits.train, self.splits.test, self.splits.unlabelled)])
        runtime = self._runtime()
        taught = [self._teach(number, runtime) for number in range(len(self.teachers))]
        if self.team.leader:
            self._warn(self._odd_teachers(taught, runtime))
        if runtime.jobs > 1:
            self._train_side_by_side(runtime)
        with threads(runtime.threads or torch.get_num_threads()):
            runs = self._runs(runtime)
        if self.team.leader:
            taught, runs = self._timed(taught, runs, runtime)
        summary = Summary(self.recipe, taught, runs, self.folder)
        if self.team.leader:
            self._report(summary)
        self.team.wait()
        return summary

    def _runs(self, runtime: Runtime) -> list[dict[str, Result]]:
        """The results of each seed, one training after another; of those that are finished, what they came to."""
        runs: list[dict[str, Result]] = []
        for seed in self.seeds:
            results = {}
            if self.recipe.alone == "train":
                alone = self._alone(seed).run(self.console, runtime)
                results["alone"] = replace(alone[0], name="alone")
            elif seed in self.earlier:
                results["alone"] = self.earlier[seed]
            trained = self._training(seed).run(self.console, runtime)
            results |= {result.name: result for result in trained}
            runs.append(results)
        return runs

    def _train_side_by_side(self, runtime: Runtime) -> None:
        """Every training that is not finished, several at a time, those that take longest first."""
        kinds = [False, True] if self.recipe.alone == "train" else [False]
        places = [(seed, alone, *self._place(seed, alone)) for alone in kinds for seed in self.seeds]
        specs = [
            TrainingSpec(self.folder, seed, alone, title, folder, self.recipe.epochs)
            for seed, alone, title, folder in places
            if not finished(folder)
        ]
        each = runtime.threads or torch.get_num_threads()
        logits = {key: [one.cpu().numpy() for one in batches] for key, batches in self.shared.teacher_logits.items()}
        side_by_side(specs, train_beside, runtime.jobs, each, partial(_arrive, self.beside, logits), self.console)

    def _timed(
        self, taught: list[Result], runs: list[dict[str, Result]], runtime: Runtime
    ) -> tuple[list[Result], list[dict[str, Result]]]:
        """The results with latencies taken in turns, where each training had taken its own at its end."""
        seed = self.recipe.seed
        method = self._training(seed).method
        nets = {"alone": self.parts.student(seed), "student": method.deployed(), **method.also_deployed()}
        shown = [*self.teachers, *(nets[name] for name in runs[0])]
        times = latencies([net.to(runtime.device) for net in shown], self.splits.image_shape)
        count = len(self.teachers)
        named = dict(zip(runs[0], times[count:], strict=True))
        return (
            [result.timed(time) for result, time in zip(taught, times[:count], strict=True)],
            [{name: result.timed(named[name]) for name, result in run.items()} for run in runs],
        )

    def _odd_teachers(self, taught: list[Result], runtime: Runtime) -> list[str | None]:
        """Lines about teachers that hardly beat guessing, exchange classes or end in probabilities."""
        lines = []
        for number, (net, result) in enumerate(zip(self.teachers, taught, strict=True)):
            seen = (number, net, self.splits.test)
            weak = weak_teacher(*seen, result.scores.top1, runtime.device)
            lines += [weak or exchanged_classes(*seen, runtime.device), probabilities(*seen, runtime.device)]
        return lines

    def _warn(self, lines: Sequence[str | None]) -> None:
        """Print what is odd about the images and the teachers."""
        for line in filter(None, lines):
            self.console.print(f"warning: {line}", markup=False, soft_wrap=True)

    def _runtime(self) -> Runtime:
        """The leader's choices, on this process's own device."""
        return replace(self.team.from_leader(self._choose), device=find_device(self.recipe.device))

    def _choose(self) -> Runtime:
        """One precision for every training of the job, chosen when it first started and kept when it is resumed."""
        record = self.folder / "environment.json"
        if record.exists():
            chosen = json.loads(record.read_text(encoding="utf-8"))["runtime"]
            device, teachers = find_device(self.recipe.device), tuple(chosen["teachers"])
            # Runs of earlier versions do not say all of them.
            later = {key: chosen[key] for key in ("compiled", "threads", "jobs") if key in chosen}
            # With the threads as they were, how many go at a time changes no result.
            later |= {"jobs": self._wanted_jobs} if self.recipe.jobs else {}
            return Runtime(device, chosen["precision"], chosen["reason"], teachers, **later)
        training = self._training(self.recipe.seed)
        runtime = training.precision()
        share = self._share(training, runtime)
        with threads(share.threads):
            runtime = training.engined(runtime)
        if share.line:  # else as many threads as there are, wherever the run is resumed
            runtime = replace(runtime, threads=share.threads, jobs=share.jobs)
        runtime = replace(runtime, reason="\n".join(filter(None, [runtime.reason, share.line])))
        chosen = {key: value for key, value in vars(runtime).items() if key != "device"}
        write_json(record, {"runtime": chosen, **environment()})
        self.console.print(runtime.reason, markup=False, soft_wrap=True)
        return runtime

    def _check_jobs(self) -> None:
        """Trainings side by side can be what the recipe wants.

        Raises:
            AttarError: they cannot.
        """
        jobs = self.recipe.jobs or 1
        if jobs > 1 and self.team.size > 1:
            raise AttarError(f"jobs={jobs}: torchrun's processes train one network together; leave jobs out")
        if jobs > 1 and self.given.any:
            raise AttarError(f"jobs={jobs}: objects stay in this process; give names and files, or leave jobs out")

    @property
    def _wanted_jobs(self) -> int:
        """What the recipe says, but no more than there are trainings."""
        return min(self.recipe.jobs or 1, len(self.seeds) * (1 + (self.recipe.alone == "train")))

    def _share(self, training: Training, runtime: Runtime) -> Share:
        """How the trainings of this job share the processor."""
        here = torch.get_num_threads()
        if self._wanted_jobs > 1:
            return wanted_share(self._wanted_jobs, here)
        if self.team.size > 1:
            return Share(here)
        return self._best_share(training, runtime, apart=bool(self.beside) and self.recipe.jobs is None)

    def share_of(self, copies: int) -> Share:
        """How so many jobs like this one would best share the processor, found by trying."""
        training = self._training(self.recipe.seed)
        return self._best_share(training, training.precision(), copies=copies)

    def _best_share(self, training: Training, runtime: Runtime, apart: bool = True, copies: int = 1) -> Share:
        here, alone = torch.get_num_threads(), self.recipe.alone == "train"
        if runtime.device.type != "cpu":
            return Share(here)
        others = [self._alone(self.recipe.seed)] * alone

        def seconds_with(count: int) -> list[float]:
            with threads(count):
                return [one.step_seconds(runtime) for one in [training, *others]] * len(self.seeds) * copies

        # Reading files has processes of its own already.
        most = processes_with_room() if apart and not isinstance(self.splits.train, FileSet) else 1
        return best_share(seconds_with, here, self.recipe.epochs * len(training.loader), most)

    def _report(self, summary: Summary) -> None:
        """results.json, the graph of who taught whom, the images a report shows, and report.html from all of it."""
        write_json(self.folder / "results.json", summary.to_json())
        write_text(self.folder / "graph.svg", svg(self._training(self.recipe.seed).method.graph))
        save_pictures(read_run(self.folder), self.splits.test)
        write_report(self.folder)

    @property
    def seeds(self) -> list[int]:
        return list(range(self.recipe.seed, self.recipe.seed + self.recipe.seeds))

    def seed_folder(self, seed: int) -> Path:
        """Where one seed's run lives: the job's own folder where there is only one."""
        return self.folder if self.recipe.seeds == 1 else self.folder / f"seed{seed}"

    def _place(self, seed: int, alone: bool = False) -> tuple[str, Path]:
        """What one training is called, and its folder."""
        title = "alone" if alone else self.recipe.method.name
        folder = self.seed_folder(seed) / "alone" if alone else self.seed_folder(seed)
        return title + (f" seed {seed}" if self.recipe.seeds > 1 else ""), folder

    def _training(self, seed: int) -> Training:
        splits = self.parts.splits(seed)
        student = self.parts.student(seed)
        # Teachers are copied: a method may change them, and the next seed starts from the same ones.
        teachers = [copied(net) for net in self.teachers] or None
        # Not the student's own stream: a peer drawn from that would start as the student's twin and teach nothing.
        with seeded(Address(seed).generator("method").initial_seed()):
            info_takes = "+" in self.recipe.method.name or method_info(self.recipe.method.name).takes_teacher
            method = create_method(
                self.recipe.method.name,
                student=student,
                teacher=teachers if info_takes else None,
                image_shape=splits.image_shape,
                **self.recipe.method.options,
            )
            method.setup(splits.train.labels)
        title, folder = self._place(seed)
        shared = (self.teacher_predictions, self.engines, self.tracking)
        return Training(method, splits, replace(self.recipe, seed=seed), folder, title, *shared)

    def _alone(self, seed: int) -> Training:
        splits = self.parts.splits(seed)
        recipe = replace(self.recipe, seed=seed, method=MethodRecipe("supervised"), teacher=TeacherRecipe())
        method = create_method("supervised", student=self.parts.student(seed))
        title, folder = self._place(seed, alone=True)
        return Training(method, splits, recipe, folder, title, self.teacher_predictions, None, self.tracking)

    def _teacher_folder(self, number: int) -> Path:
        return self.folder / ("teacher" if number == 0 else f"teacher{number + 1}")

    def _prepare_teachers(self) -> None:
        """What training a teacher first would need, built before anything is written."""
        self.training_first: dict[int, Training] = {}
        for number, name in self.parts.untrained():
            recipe = replace(
                self.recipe,
                student=ModelRecipe(name, None, self.recipe.teacher.options),
                teacher=TeacherRecipe(),
                method=MethodRecipe("supervised"),
                epochs=self.recipe.teacher.epochs or self.recipe.epochs,
            )
            method = create_method("supervised", student=self.teachers[number])
            splits = self.parts.splits(recipe.seed, self.recipe.teacher.train_size)
            title = f"teacher {name}"
            folder = self._teacher_folder(number)
            self.training_first[number] = Training(method, splits, recipe, folder, title, tracking=self.tracking)

    def _teach(self, number: int, runtime: Runtime) -> Result:
        """The teacher's scores, after training it where it came without weights."""
        folder, first = self._teacher_folder(number), self.training_first.get(number)
        if first:
            # Whether steps compile was tried with the student.
            result = first.run(self.console, replace(runtime, compiled=False))[0]
            self.teachers[number].load_state_dict(self.team.from_leader(lambda: load(folder).state_dict()))
            return replace(result, name="teacher")
        return self.team.from_leader(lambda: self._measured(number, folder, runtime))

    def _measured(self, number: int, folder: Path, runtime: Runtime) -> Result:
        """The scores of a teacher that came with weights."""
        record = folder / "scores.json"
        if record.exists():
            return Result.from_json(json.loads(record.read_text(encoding="utf-8"))["results"][0])
        teacher_predictions = self.teacher_predictions if number == 0 else None
        result = measure(
            "teacher", self.teachers[number], self.splits.test, runtime.device, teacher_predictions, folder
        )
        write_json(record, {"results": [result.to_json()]})
        return result

    def _earlier_baselines(self) -> dict[int, Result]:
        """The student alone from an earlier run, per seed, where the recipe names one."""
        if self.recipe.alone in ("train", "skip"):
            return {}
        root, name, classes = Path(self.recipe.alone), self.recipe.student.name, self.splits.test.classes
        return {seed: earlier_baseline(root, name, classes, seed) for seed in self.seeds}


def train_beside(seat: TrainingSpec) -> None:
    """One training of a job in a process of its own, what it prints in the log of its folder.

    Raises:
        AttarError: another process is at it, or the training fails.
        Stopped: the process was asked to stop.
    """
    with held(seat.folder / LOCK), (seat.folder / LOG).open("a", encoding="utf-8") as log:
        job, runtime = _reopened(seat.job)
        training = job._alone(seat.seed) if seat.alone else job._training(seat.seed)
        training.run(Console(file=log, width=100), runtime)


# Of a process that trains beside the first: what that one has computed already.
_shared = SharedResources()


def _arrive(beside: Callable[[], object] | None, logits: dict[tuple[str, str], list[np.ndarray]]) -> None:
    """The first thing a process beside the first one does."""
    if beside:
        beside()
    _shared.teacher_logits.update({key: [torch.from_numpy(one) for one in batches] for key, batches in logits.items()})


@cache
def _reopened(folder: Path) -> tuple[Job, Runtime]:
    """A job that another process has begun, its teachers trained; kept for what this process trains next."""
    job = Job(read_recipe(folder / "recipe.yaml"), folder, Console(quiet=True), shared=_shared)
    keep_freed_memory()
    runtime = job._runtime()
    for number in range(len(job.teachers)):
        job._teach(number, runtime)
    return job, runtime
