"""The main job: a teacher, the student alone and the student distilled, over one seed or several, and the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from attar.accel.allocator import keep_freed_memory, release_freed_memory
from attar.accel.runtime import Runtime, find_device
from attar.batch import Address
from attar.data import FileSet, ImageSet
from attar.data.overview import split_lines
from attar.deploy import load
from attar.distributed.team import sign, surviving, team
from attar.errors import AttarError, Stopped, first_line
from attar.experiments.baseline import earlier_baseline, trained_otherwise
from attar.experiments.build import Parts, Sets, fitting, seeded, task_title
from attar.experiments.exporting import export_run
from attar.experiments.given_objects import Given
from attar.experiments.input_warnings import odd_teachers, overlap
from attar.experiments.inputs_record import Fingerprints, changed_inputs, check_inputs, data_fingerprints, write_inputs
from attar.experiments.kept_choices import FILE as CHOICES
from attar.experiments.kept_choices import Choices
from attar.experiments.layout import seed_folder, teacher_recipe, training_place, training_recipe
from attar.experiments.parallel import LOCK, LOG, TrainingSpec, side_by_side
from attar.experiments.runtime_choice import RuntimeChoice, check_jobs
from attar.experiments.shared_resources import SharedResources
from attar.experiments.training import (
    OnEpoch,
    Training,
    complete,
    finished,
    followed,
    measure,
    printed,
    report_results,
    test_bar,
)
from attar.files import check_space, write_json, write_text
from attar.methods import Method, create_method, method_info
from attar.models import fingerprint
from attar.models.copying import copied
from attar.models.libraries.names import FILES
from attar.plugins import record_imports
from attar.profiling import Result, latencies, read_scores, threads
from attar.recipe import Recipe, read_recipe, to_yaml
from attar.report.drawing import svg
from attar.report.run_files import read_run
from attar.report.run_page import write_report
from attar.report.summary import Summary
from attar.report.thumbnails import save_pictures
from attar.safety.locks import held, locked
from attar.track import Tracking
from attar.train.loop import Places
from attar.train.range_test import find_rate


@dataclass
class Job:
    """A recipe with what it names built, and nothing written yet; `check` tries a batch.

    Attributes:
        recipe: what to do.
        folder: where.
        console: where to print.
        given: networks and data that were handed over as objects.
        shared: what it shares with other jobs of this process.
        beside: called first in every process that trains beside this one; None: no process is started unasked, because
            what the caller has registered would be missing there.
        accept_changes: whether a resumed job goes on where its data or given weights have changed.
        like: choices of another run of this recipe, by their names in `Choices`, that this one repeats.
    """

    recipe: Recipe
    folder: Path
    console: Console = field(default_factory=Console)
    given: Given = field(default_factory=Given)
    shared: SharedResources = field(default_factory=SharedResources)
    beside: Callable[[], object] | None = None
    accept_changes: bool = False
    like: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.team = team()
        check_jobs(self.recipe, self.given)
        if not self.team.leader:
            self.console = Console(quiet=True)
        # Those of the run's own folder, or of the suite it belongs to.
        files = [place / CHOICES for place in (self.folder, *self.folder.parents[2:3])]
        kept = files[0] if self.like else next((file for file in files if file.exists()), None)
        self.choices = Choices(kept) if kept else self.shared.choices
        self.tracking = Tracking(self.recipe.track, self.folder)
        held = self.shared.samples_of(self.recipe, self.given)
        self.task, self.parts = held.task, Parts(self.recipe, held, self.given)
        with self.team.leader_first(), self.console.status(f"reading {self.recipe.data.name}"):
            self.splits = self.parts.splits(self.recipe.seed)
        self.engines = self.shared.engines(self.splits.train)
        with self.console.status("building the networks"):
            self.teachers = self.parts.taught = self.parts.teachers()
        self.teacher_predictions = self.shared.teacher_predictions(self.teachers[0]) if self.teachers else None
        self.teacher_trainings = self._teacher_trainings()
        self.earlier = self._earlier_baselines()
        self._trainings: dict[tuple[int, bool], Training] = {}

    def check(self) -> Job:
        """Build the first seed's training and try a batch, so that every mistake shows before a file is written.

        Raises:
            AttarError: what does not hold.
        """
        if self.recipe.optim.range_test and self.team.size > 1:
            raise AttarError("optim.lr=auto looks for the rate in one process; give a number under torchrun")
        with self.console.status("trying a batch"):
            if not self.accept_changes:
                check_inputs(self.folder, self.inputs)
            training = self.training(self.recipe.seed)
            with fitting(self.recipe.method.name, task_title(self.recipe)):
                training.try_a_batch()
        if not (self.folder / "recipe.yaml").exists():
            check_space(self.folder, self.bytes_needed())
        return self

    def bytes_needed(self) -> int:
        """About how many bytes the checkpoints and networks of all trainings of students take."""
        trainings = len(self.seeds) * (1 + (self.recipe.alone == "train"))
        return trainings * self.training(self.recipe.seed).bytes_needed()

    @cached_property
    def inputs(self) -> Fingerprints:
        """The fingerprints of the data and of networks whose weights were given."""
        # One that is trained on from a folder's encoder starts from given weights all the same.
        trained = {number for number, name in self.parts.untrained() if not name.startswith(FILES)}
        given = [(number, net) for number, net in enumerate(self.teachers) if number not in trained]
        found = {f"weights of {self._teacher_folder(number).name}": fingerprint(net) for number, net in given}
        if self.recipe.student.weights and not self.parts.starts_from_teacher:
            found["weights of student"] = fingerprint(self.parts.student(self.recipe.seed))
        return {**found, **data_fingerprints(self.splits, self.task.metrics().scoring.samples)}

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
        except KeyboardInterrupt:  # outside a training, which saves before it stops
            if not (self.folder / "recipe.yaml").is_file():
                raise
            raise Stopped(str(self.folder)) from None

    def _run(self) -> Summary:
        if self.team.leader:
            sign(self.folder)
            self._record_inputs()
            write_text(self.folder / "recipe.yaml", to_yaml(self.recipe))
            if self.like:
                write_json(self.folder / CHOICES, self.like)
            record_imports(self.folder)
        keep_freed_memory()
        for line in split_lines(self.splits):
            self.console.print(line, markup=False, soft_wrap=True)
        if self.team.leader:
            samples = self.task.metrics().scoring.samples
            sets = (self.splits.train, self.splits.test, self.splits.unlabelled)
            self._warn([*self.splits.notes, overlap(*sets, samples=samples)])
        runtime = self._runtime()
        with threads(runtime.teacher_threads or torch.get_num_threads()):
            return self._trained(runtime)

    def _trained(self, runtime: Runtime) -> Summary:
        """Teachers, then students, then the report."""
        taught = [self.teach(number, runtime) for number in range(len(self.teachers))]
        if self.team.leader:
            folders = [self._teacher_folder(number) for number in range(len(self.teachers))]
            trained = {number for number, _ in self.parts.untrained()}
            self._warn(odd_teachers(self.teachers, folders, self.splits.test, runtime.device, trained))
        runtime = self._with_engines(runtime)
        if self.recipe.optim.range_test:
            self._find_rate(runtime)
        failed = self._train_side_by_side(runtime) if runtime.jobs > 1 else {}
        with threads(runtime.threads or torch.get_num_threads()):
            runs = self._runs(runtime, failed)
        if self.team.leader:
            taught, runs = self._timed(taught, runs, runtime)
        summary = Summary(self.recipe, taught, runs, self.folder, self.task.metrics().scoring, failed)
        if self.team.leader:
            self._report(summary)
        self.team.wait()
        return summary

    def validate(self, on_epoch: OnEpoch) -> None:
        """Train the first seed's student; the test set is not touched, and nothing is deployed.

        Args:
            on_epoch: as of `Training.fit`; what it raises ends the training.

        Raises:
            AttarError: a teacher is not trained, or there are no validation samples.
            Stopped: the process was asked to stop.
        """
        if self.teacher_trainings:
            raise AttarError("a search needs trained teachers; give their weights")
        if self.splits.val is None:
            raise AttarError("a search scores on the validation set; give data.val_fraction")
        with surviving(), locked(self.folder):
            self._record_inputs()
            write_text(self.folder / "recipe.yaml", to_yaml(self.recipe))
            keep_freed_memory()
            runtime = self._with_engines(self._runtime())
            with threads(runtime.threads or torch.get_num_threads()):
                self.training(self.recipe.seed).fit(self.console, runtime, on_epoch)

    def _find_rate(self, runtime: Runtime) -> None:
        """Put the learning rate of a range test with the first seed's method into the recipe, and write it again."""
        training = self.training(self.recipe.seed)
        training.prepare(self.console)
        with self.console.status("looking for the learning rate"):
            places = Places(training.folder)
            rate = find_rate(training.method, training.loader, training.recipe, runtime, places)
        rate = max(rate, self.recipe.optim.min_lr)  # a recipe with less could not be read again
        self._print(f"lr {rate:g}: a tenth of where the loss was lowest in a range test")
        self.recipe = replace(self.recipe, optim=replace(self.recipe.optim, lr=rate, range_test=False))
        write_text(self.folder / "recipe.yaml", to_yaml(self.recipe))
        self._trainings.clear()

    def _record_inputs(self) -> None:
        """Write what the job begins with; after an accepted change, teachers that are not trained are scored again."""
        if changed := changed_inputs(self.folder, self.inputs):
            self._warn([f"going on with other {', '.join(changed)}; trainings that are finished keep their results"])
            for number in set(range(len(self.teachers))) - self.teacher_trainings.keys():
                (self._teacher_folder(number) / "scores.json").unlink(missing_ok=True)
        write_inputs(self.folder, self.inputs)

    def _runs(self, runtime: Runtime, failed: dict[int, str]) -> list[dict[str, Result]]:
        """The results of each seed, one training after another; finished ones are read.

        Args:
            runtime: what trainings compute with.
            failed: the seeds that failed, with the reason; those that fail here are added, and the others go on.

        Raises:
            AttarError: every seed failed, or a process of several that work on one run.
        """
        runs: list[dict[str, Result]] = []
        for seed in [seed for seed in self.seeds if seed not in failed]:
            try:
                runs.append(self._run_of(seed, runtime))
            except AttarError as error:
                if len(self.seeds) == 1 or self.team.size > 1:
                    raise
                failed[seed] = str(error)
                self._print(f"failed: seed {seed}: {error}")
                self.release(seed, True)
        if not runs:
            raise AttarError(next(iter(failed.values())))
        return runs

    def _run_of(self, seed: int, runtime: Runtime) -> dict[str, Result]:
        """The results of one seed by name."""
        results = {}
        if self.recipe.alone == "train":
            results["alone"] = replace(self._results(seed, True, runtime)[0], name="alone")
        elif seed in self.earlier:
            results["alone"] = self.earlier[seed]
        return results | {result.name: result for result in self._results(seed, False, runtime)}

    def _results(self, seed: int, alone: bool, runtime: Runtime) -> list[Result]:
        """The results of one training; a finished one's networks are not built."""
        title, folder = self._place(seed, alone)
        if self.team.from_leader(lambda: finished(folder)):
            recipe = training_recipe(self.recipe, seed, alone)
            if self.team.leader:
                complete(folder, self.splits.test.example, runtime.device, printed(self.console, title))
            with followed(recipe, folder, title, self.tracking, self.console) as following:
                return report_results(folder, following)
        results = self.training(seed, alone).run(self.console, runtime)
        if alone or seed != self.recipe.seed:  # the first seed's is drawn and timed in the end
            self.release(seed, alone)
        return results

    def release(self, seed: int, alone: bool) -> None:
        """Drop a training that is done, with its networks and images."""
        self._trainings.pop((seed, alone), None)

    def _train_side_by_side(self, runtime: Runtime) -> dict[int, str]:
        """Every training that is not finished, several at a time, those that take longest first; the failed seeds."""
        kinds = [False, True] if self.recipe.alone == "train" else [False]
        places = [(seed, alone, *self._place(seed, alone)) for alone in kinds for seed in self.seeds]
        specs = [
            TrainingSpec(self.folder, seed, alone, title, folder, self.recipe.epochs)
            for seed, alone, title, folder in places
            if not finished(folder)
        ]
        each = runtime.threads or torch.get_num_threads()
        logits = {key: [one.cpu().numpy() for one in batches] for key, batches in self.shared.teacher_logits.items()}
        # The trainings build their own engines, and what this process freed is theirs to use.
        self.engines.clear(self.training(self.recipe.seed).method)
        release_freed_memory()
        begin = partial(_arrive, self.beside, logits)
        failed = {}
        for spec, reason in side_by_side(specs, outcome_beside, runtime.jobs, each, begin, self.console):
            failed[spec.seed] = reason
            self._print(f"failed: {spec.title}: {reason}")
        return failed

    def _timed(
        self, taught: list[Result], runs: list[dict[str, Result]], runtime: Runtime
    ) -> tuple[list[Result], list[dict[str, Result]]]:
        """The results with latencies measured interleaved, in place of those that each training measured alone.

        Those stay where a network cannot be timed beside the others.
        """
        seed = self.recipe.seed
        method = self.training(seed).method
        nets = {"alone": self.parts.student(seed), "student": method.deployed(), **method.also_deployed()}
        shown = [*self.teachers, *(nets[name] for name in runs[0])]
        # In the layout of a network that was just loaded, whatever training needed.
        layout = {"device": runtime.device, "memory_format": torch.contiguous_format}
        try:
            with self.console.status("measuring latencies"):
                times = latencies([net.to(**layout) for net in shown], self.splits.test.example)  # type: ignore[call-overload]
        except Exception as error:  # a network may do anything
            self._warn([f"latencies were not measured side by side: {first_line(error)}"])
            return taught, runs
        count = len(self.teachers)
        named = dict(zip(runs[0], times[count:], strict=True))
        return (
            [result.timed(time) for result, time in zip(taught, times[:count], strict=True)],
            [{name: result.timed(named[name]) for name, result in run.items()} for run in runs],
        )

    def _warn(self, lines: Sequence[str | None]) -> None:
        """Print what is odd about the images and the teachers."""
        for line in filter(None, lines):
            self._print(f"warning: {line}")

    def _print(self, line: str | None) -> None:
        if line:
            self.console.print(line, markup=False, soft_wrap=True)

    def _runtime(self) -> Runtime:
        """The leader's precision, threads and processes, on this process's own device."""
        choose = self.runtime_choice.choose
        with self.console.status("choosing precision and threads"):
            return replace(self.team.from_leader(choose), device=find_device(self.recipe.device))

    def _with_engines(self, runtime: Runtime) -> Runtime:
        """The leader's choice of the engines of the trained teachers, and of compiled steps."""
        choose = self.runtime_choice.choose_engines
        with self.console.status("choosing how the teacher and the steps compute"):
            return replace(self.team.from_leader(lambda: choose(runtime)), device=runtime.device)

    @property
    def runtime_choice(self) -> RuntimeChoice:
        """How the job computes: chosen when it first starts, read back when it is resumed."""
        return RuntimeChoice(
            self.recipe,
            self.folder,
            self.choices,
            partial(self.training, self.recipe.seed),
            apart=bool(self.beside),
            workers_read_files=isinstance(self.splits.train, FileSet),
            output=self._print,
        )

    def _report(self, summary: Summary) -> None:
        """results.json, exported files, the graph of who taught whom, and report.html with the images it shows.

        All but the first may fail: a line says so, and the run is not finished until `attar resume` has written them.
        """
        (self.folder / "report.html").unlink(missing_ok=True)
        write_json(self.folder / "results.json", summary.to_json())
        if self.recipe.export:
            export_run(summary.student, self.recipe.export, self.splits, self.task, self.console)
        try:
            write_text(self.folder / "graph.svg", svg(self.training(self.recipe.seed).method.graph))
            if isinstance(self.splits.test, ImageSet):
                save_pictures(read_run(self.folder), self.splits.test)
            write_report(self.folder)
        except Exception as error:  # whatever a network's name or a picture trips over
            command = f"attar resume {quote(str(self.folder))}"
            self._warn([f"the report was not written: {first_line(error)}; `{command}` writes it"])

    @property
    def seeds(self) -> list[int]:
        return list(range(self.recipe.seed, self.recipe.seed + self.recipe.seeds))

    def seed_folder(self, seed: int) -> Path:
        """Where one seed's run lives: the job's own folder where there is only one."""
        return seed_folder(self.recipe, self.folder, seed)

    def _place(self, seed: int, alone: bool = False) -> tuple[str, Path]:
        """What one training is called, and its folder."""
        return training_place(self.recipe, self.folder, seed, alone)

    def training(self, seed: int, alone: bool = False) -> Training:
        """One seed's training, the student's with the method or without a teacher; it is built once."""
        if (seed, alone) not in self._trainings:
            self._trainings[seed, alone] = self._build(seed, alone)
        return self._trainings[seed, alone]

    def _build(self, seed: int, alone: bool) -> Training:
        splits, (title, folder) = self.parts.splits(seed), self._place(seed, alone)
        method = self._supervised(self.parts.student(seed)) if alone else self._method(seed, splits)
        engines = None if alone else self.engines
        recipe = training_recipe(self.recipe, seed, alone)
        return Training(method, splits, recipe, folder, title, self.teacher_predictions, engines, self.tracking)

    def _supervised(self, student: nn.Module) -> Method:
        return create_method("supervised", student=student, task=self.task)

    def _method(self, seed: int, splits: Sets) -> Method:
        """One seed's method, around the job's own teachers where it holds them `Frozen`.

        A method that registers them as its submodules trains them, and gets copies: every seed starts from the same.
        """
        method = self._created(seed, splits, self.teachers)
        owned = set(method.modules())
        if any(module in owned for teacher in self.teachers for module in teacher.modules()):
            method = self._created(seed, splits, [copied(net) for net in self.teachers])
        return method

    def _created(self, seed: int, splits: Sets, teachers: list[nn.Module]) -> Method:
        name = self.recipe.method.name
        takes_teacher = "+" in name or method_info(name).takes_teacher
        # Not the student's own stream: a peer drawn from that would start as the student's twin and teach nothing.
        with seeded(Address(seed).generator("method").initial_seed()), fitting(name, task_title(self.recipe)):
            method = create_method(
                name,
                student=self.parts.student(seed),
                teacher=teachers if takes_teacher and teachers else None,
                image_shape=splits.image_shape,
                task=self.task,
                **self.recipe.method.options,
            )
            method.setup(splits.train.labels)
        return method

    def _teacher_folder(self, number: int) -> Path:
        return self.folder / ("teacher" if number == 0 else f"teacher{number + 1}")

    def _teacher_trainings(self) -> dict[int, Training]:
        """The trainings of teachers without weights, by number, built before anything is written."""
        trainings = {}
        for number, name in self.parts.untrained():
            splits = self.parts.splits(self.recipe.seed, self.recipe.teacher.train_size)
            # A copy, because methods freeze the teacher that they are given.
            method = self._supervised(copied(self.teachers[number]))
            recipe, folder = teacher_recipe(self.recipe, number), self._teacher_folder(number)
            title = f"teacher {number + 1} {name}" if number and recipe.seed != self.recipe.seed else f"teacher {name}"
            trainings[number] = Training(method, splits, recipe, folder, title, tracking=self.tracking)
        return trainings

    def teach(self, number: int, runtime: Runtime) -> Result:
        """A teacher's scores, after training it where it came without weights."""
        folder, training = self._teacher_folder(number), self.teacher_trainings.get(number)
        if training is None:
            return self.team.from_leader(lambda: self._measured(number, folder, runtime))
        # Whether steps compile is tried with the student.
        result = training.run(self.console, replace(runtime, compiled=False))[0]
        self.teachers[number].load_state_dict(self.team.from_leader(lambda: load(folder).state_dict()))
        # Its networks are no longer needed; whatever copied the untrained teacher is built again.
        del self.teacher_trainings[number]
        kept = [] if self.parts.starts_from_teacher else [key for key in self._trainings if key[1]]
        self._trainings = {key: self._trainings[key] for key in kept}
        return replace(result, name="teacher")

    def _measured(self, number: int, folder: Path, runtime: Runtime) -> Result:
        """The scores of a teacher that came with weights."""
        record = folder / "scores.json"
        if record.exists():
            result = read_scores(folder)[0]
            if result.cost.complete:
                return result
        teacher_predictions = self.teacher_predictions if number == 0 else None
        net, metrics, batches = self.teachers[number], self.task.metrics(), test_bar(self.console, folder.name)
        result = measure(
            "teacher", net, self.splits.test, metrics, runtime.device, teacher_predictions, folder, self._print, batches
        )
        write_json(record, {"results": [result.to_json()]})
        return result

    def _earlier_baselines(self) -> dict[int, Result]:
        """The student alone from an earlier run, per seed, where the recipe names one."""
        if self.recipe.alone in ("train", "skip"):
            return {}
        root, student, classes = Path(self.recipe.alone), self.recipe.student, self.splits.test.classes
        found = {seed: earlier_baseline(root, student, classes, seed, self.inputs) for seed in self.seeds}
        self._warn([trained_otherwise(self.recipe)])
        return found


def outcome_beside(spec: TrainingSpec) -> str:
    """`train_beside`: why it failed, or nothing."""
    try:
        train_beside(spec)
    except AttarError as error:
        return str(error)
    return ""


def train_beside(spec: TrainingSpec) -> None:
    """One training of a job in a process of its own; what it prints goes to the log of its folder.

    Raises:
        AttarError: another process is at it, or the training fails.
        Stopped: the process was asked to stop.
    """
    with held(spec.folder / LOCK), (spec.folder / LOG).open("a", encoding="utf-8", errors="backslashreplace") as log:
        job, runtime = _reopened(spec.job)
        job.training(spec.seed, spec.alone).run(Console(file=log, width=100), runtime)
        job.release(spec.seed, spec.alone)


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
        job.teach(number, runtime)
    return job, runtime
