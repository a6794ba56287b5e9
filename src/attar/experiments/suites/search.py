"""`attar bench --search`: edge weights, temperatures and other options by Optuna, on the validation set alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from attar.errors import AttarError, first_line
from attar.experiments.job import Job
from attar.experiments.kept_choices import FILE as CHOICES
from attar.experiments.kept_choices import Choices
from attar.experiments.parallel import LOG
from attar.experiments.shared_resources import SharedResources
from attar.experiments.suites.attempts import attempt_logged
from attar.experiments.suites.cells import (
    Cell,
    cells_of,
    combinations,
    control_of,
    folder_name,
    named,
    one_value,
    row_name,
)
from attar.experiments.suites.search_space import Path as Place
from attar.experiments.suites.search_space import Space, chosen, spaces_of, suggested
from attar.experiments.suites.suite import Options, load_suite, parsed
from attar.experiments.suites.suite_check import check_begun
from attar.extras import quiet, require
from attar.files import write_text
from attar.metrics import Measure
from attar.recipe import Recipe, layered, read_recipe
from attar.records import read_json_lines
from attar.report.tables import Table
from attar.safety.locks import InUseError
from attar.tasks import task_of
from attar.train.logging import read
from attar.train.loop import Places

FOLDER, TRIALS = "search", "trials.jsonl"
# Successive halving: after a ninth (at least three) and a third of the epochs, the best third of the trials goes on.
REDUCTION, RUNGS, FEWEST = 3, 9, 3


class Pruned(Exception):  # noqa: N818 - no error: the trial was not among the best
    """A trial ends before its last epoch."""


@dataclass
class Study:
    """The search of a method on a pair.

    Attributes:
        row: the method with what its section gives; where several would have one name, with what is searched too.
        column: the pair.
        section: the method's section, without its `search`.
        pair: the pair's section.
        spaces: what is varied.
        folder: where its trials are.
        measure: the primary measure of the task.
        epochs: how many a trial has that is not ended early.
        digest: of the recipe without what is varied; trials of another one are not this study's.
        records: the trials that have ended, as they stand in the folder's trials.jsonl.
    """

    row: str
    column: str
    section: dict[str, Any]
    pair: dict[str, Any]
    spaces: dict[Place, Space]
    folder: Path
    measure: Measure
    epochs: int
    digest: str
    records: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        file = self.folder / TRIALS
        remedy = f"delete {self.folder} to search again"
        self.records = read_json_lines(file, remedy) if file.exists() else []
        if any(record.get("recipe") != self.digest for record in self.records):
            raise AttarError(f"{file} has trials of another recipe; give its keys again, another out=, or {remedy}")

    def best(self) -> dict[str, Any] | None:
        """The record of the best trial that went to its last epoch."""
        done = [one for one in self.records if one["state"] == "COMPLETE"]
        return (max if self.measure.higher else min)(done, key=lambda one: one["value"]) if done else None

    def count(self, state: str) -> int:
        """How many trials ended like this: COMPLETE, PRUNED or FAIL."""
        return sum(one["state"] == state for one in self.records)


@dataclass
class Search:
    """A search over a suite's methods that have a `search` key; others have one trial, as they are.

    Attributes:
        suite: as `load_suite` gives it.
        common: the values that all runs share.
        folder: the suite's.
        trials: how many each method has.
        console: where to print.
    """

    suite: dict[str, Any]
    common: dict[str, Any]
    folder: Path
    trials: int
    console: Console

    def __post_init__(self) -> None:
        self.optuna = require("optuna", "a search", "search")
        self.optuna.logging.set_verbosity(self.optuna.logging.ERROR)
        self.seed = self.suite["seeds"][0]
        self.shared = SharedResources(choices=Choices(self.folder / CHOICES))

    def run(self) -> list[Table]:
        """Search, and write the tables and a suite of the best methods for each pair.

        Raises:
            AttarError: the suite is wrong, or every trial of a method failed.
            Stopped: the process was asked to stop; the same command goes on.
        """
        studies = list(self._studies())
        for study in studies:
            self._check(study)
        for study in studies:
            while len(study.records) < (self.trials if study.spaces else 1):
                self._trial(study)
        tables = self._tables(studies)
        text = "\n\n".join(f"## {one.title}\n\n{one.markdown()}" for one in tables)
        write_text(self.folder / FOLDER / "table.md", text + "\n")
        if failed := next((study for study in studies if study.best() is None), None):
            reason = next((one["reason"] for one in failed.records if one["reason"]), "no score is a number")
            raise AttarError(
                f"every trial of {failed.row} on {failed.column} failed ({reason}); give other ranges, and delete "
                f"{failed.folder} to search again. The others are in {self.folder / FOLDER / 'table.md'}"
            )
        return tables

    def _studies(self) -> Iterator[Study]:
        """Every method on every pair."""
        sections = [named(one) | {"search": _searched(one)} for one in self.suite["methods"]]
        pairs = [pair for one in self.suite["pairs"] for pair in combinations(one)]
        columns = [cell.column for cell in self._cells(["supervised"], list(map(one_value, pairs)))]
        methods = [
            (own, spaces_of(section["search"]))
            for section in sections
            for own in combinations({key: value for key, value in section.items() if key != "search"})
        ]
        for column, pair in zip(columns, pairs, strict=True):
            for row, (own, spaces) in zip(study_names(methods), methods, strict=True):
                cell = self._cells([one_value(own)], [one_value(pair)])[0]
                recipe = read_recipe(**cell.untrained)
                place = self.folder / FOLDER / folder_name(column) / folder_name(row)
                measure, digest = task_of(recipe).metrics().primary, digest_of(recipe)
                yield Study(row, column, own, pair, spaces, place, measure, recipe.epochs, digest)

    def _cells(self, methods: list[Any], pairs: list[dict[str, Any]]) -> list[Cell]:
        suite = {"methods": methods, "pairs": pairs, "seeds": [self.seed]}
        return cells_of(suite, self.common, self.folder)

    def _cell(self, study: Study, values: dict[Place, Any]) -> Cell:
        """The run of a trial."""
        return self._cells([one_value(chosen(study.section, values))], [one_value(study.pair)])[0]

    def _check(self, study: Study) -> None:
        """Build the next trial's run and try a batch."""
        trial = self._asked(study)[1]
        cell = self._cell(study, suggested(study.spaces, trial))
        job = Job(read_recipe(**cell.untrained), study.folder / "check", Console(quiet=True), shared=self.shared)
        job.check()
        self._check_begun(study, cell)
        if read_recipe(**cell.values).data.val_fraction == 0:
            raise AttarError("a search scores on the validation set; give data.val_fraction")

    def _check_begun(self, study: Study, cell: Cell) -> None:
        """Where the next trial's run is there already, it must be this one: its scores would count as the trial's."""
        begun = study.folder / f"trial{len(study.records)}"
        if (begun / "recipe.yaml").exists():
            job = Job(read_recipe(**cell.values), begun, Console(quiet=True), shared=self.shared)
            check_begun(begun, cell.values, job)

    def _asked(self, study: Study) -> tuple[Any, Any]:
        """Optuna's study with all that has ended, and its next trial: the same whenever it is asked."""
        optuna, measure = self.optuna, study.measure
        pruner = optuna.pruners.SuccessiveHalvingPruner(max(FEWEST, study.epochs // RUNGS), REDUCTION)
        sampler = optuna.samplers.TPESampler(seed=self.seed * 10_000 + len(study.records))
        found = optuna.create_study(
            direction="maximize" if measure.higher else "minimize", sampler=sampler, pruner=pruner
        )
        with quiet():
            for record in study.records:
                found.add_trial(self._frozen(record))
        return found, found.ask()

    def _frozen(self, record: dict[str, Any]) -> Any:
        """A trial that has ended, as Optuna holds it."""
        optuna = self.optuna
        read_distribution = optuna.distributions.json_to_distribution
        return optuna.trial.create_trial(
            state=optuna.trial.TrialState[record["state"]],
            value=record["value"],
            params=record["params"],
            distributions={name: read_distribution(text) for name, text in record["distributions"].items()},
            intermediate_values={int(epoch): value for epoch, value in record["epochs"].items()},
            system_attrs=record["system"],
        )

    def _trial(self, study: Study) -> None:
        """One trial, to its last epoch or to the rung where it is not among the best."""
        number = len(study.records)
        found, trial = self._asked(study)
        values = suggested(study.spaces, trial)
        cell, place = self._cell(study, values), study.folder / f"trial{number}"
        self._train_teachers(cell)
        self._check_begun(study, cell)
        state, reason = "COMPLETE", ""
        try:
            self._fit(cell, place, trial, study)
        except Pruned:
            state = "PRUNED"
        except (InUseError, OSError):
            raise
        except Exception as error:  # a trial may do anything with such values
            state, reason = "FAIL", first_line(error)
        ended = found.trials[-1]
        epochs = ended.intermediate_values
        value = epochs[max(epochs)] if epochs and state != "FAIL" else None
        state = "FAIL" if value is None or value != value else state
        record = {
            "number": number,
            "recipe": study.digest,
            "state": state,
            "value": None if state == "FAIL" else value,
            "reason": reason,
            "params": ended.params,
            "values": {".".join(path): one for path, one in values.items()},
            "epochs": {str(epoch): one for epoch, one in epochs.items() if one == one},
            "distributions": {
                name: self.optuna.distributions.distribution_to_json(one) for name, one in ended.distributions.items()
            },
            "system": ended.system_attrs,
        }
        study.records.append(record)
        write_text(study.folder / TRIALS, "".join(json.dumps(one) + "\n" for one in study.records))
        for name in ("checkpoint.pt", "checkpoint.previous.pt"):
            (place / name).unlink(missing_ok=True)
        self._announce(study, record)

    def _train_teachers(self, cell: Cell) -> None:
        for one in cell.teachers:
            outcome = attempt_logged(one, self.folder, self.shared)
            if outcome.state != "done":
                raise AttarError(f"{one.title}: {outcome.reason}")

    def _fit(self, cell: Cell, place: Path, trial: Any, study: Study) -> None:
        """Train a trial's student from its checkpoint; each epoch's validation score is Optuna's."""

        def ended(record: dict[str, Any], speed: float = 0.0) -> None:
            trial.report(record[f"val_{study.measure.name}"], record["epoch"])
            if record["epoch"] < study.epochs and trial.should_prune():
                raise Pruned

        for record in read(Places(place).metrics):
            ended(record)
        place.mkdir(parents=True, exist_ok=True)
        with (place / LOG).open("a", encoding="utf-8", errors="backslashreplace") as log:
            recipe = read_recipe(**cell.values, out=str(place))
            Job(recipe, place, Console(file=log, width=100), shared=self.shared).check().validate(ended)

    def _announce(self, study: Study, record: dict[str, Any]) -> None:
        measure = study.measure
        score = record["reason"] if record["value"] is None else measure.value(record["value"])
        how = {"COMPLETE": "", "PRUNED": f", ended after epoch {len(record['epochs'])}", "FAIL": " (failed)"}
        total = self.trials if study.spaces else 1
        values = " ".join(f"{name}={_short(value)}" for name, value in record["values"].items())
        line = f"[{len(study.records)}/{total}] {study.row}, {study.column}: {score}{how[record['state']]}  {values}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _tables(self, studies: list[Study]) -> list[Table]:
        """The best trial of each method, for each pair; the suite that repeats it with seeds is written beside it."""
        tables = []
        for column in dict.fromkeys(study.column for study in studies):
            own = [study for study in studies if study.column == column]
            measure = own[0].measure
            rows = []
            for study in own:
                best = study.best()
                value = "failed" if best is None else f"{best['value']:.{measure.digits}f}"
                names = {} if best is None else best["values"]
                given = " ".join(f"{name}={_short(one)}" for name, one in names.items())
                counts = [str(len(study.records)), str(study.count("PRUNED")), str(study.count("FAIL"))]
                rows.append([study.row, given, *counts, value])
            heads = ["method", "best values", "trials", "ended early", "failed", f"validation {measure.title}"]
            tables.append(Table(column, heads, rows, texts=2))
            self._write_best(column, own)
        return tables

    def _write_best(self, column: str, studies: list[Study]) -> None:
        """A suite of the best methods of a pair, with the suite's control among them."""
        sections = {}
        for study in studies:
            if best := study.best():
                values = {path: best["values"][".".join(path)] for path in study.spaces}
                sections[study.row] = chosen(study.section, values)
        if not sections:
            return
        control = self.suite["control"] and sections.get(
            control_of(self.suite["control"], [one.row for one in studies])
        )
        tree = {
            "methods": [one_value(one) for one in {row_name(one): one for one in sections.values()}.values()],
            "pairs": [one_value(studies[0].pair)],
            "seeds": self.suite["seeds"],
            **({"control": row_name(control)} if control else {}),
            "recipe": self.common,
        }
        write_text(self.folder / FOLDER / f"best-{folder_name(column)}.yaml", yaml.safe_dump(tree, sort_keys=False))


def study_names(methods: list[tuple[dict[str, Any], dict[Place, Space]]]) -> list[str]:
    """The rows of methods, each with what is searched; this is named only where methods would else have one name.

    Raises:
        AttarError: two are the same.

    >>> study_names([({"name": "kd"}, {}), ({"name": "kd"}, {("ce",): ("float", 0, 1)})])
    ['kd', 'kd search=ce']
    """
    rows = [row_name(own) for own, _ in methods]
    names = [
        f"{row} search={','.join('.'.join(path) for path in spaces)}" if spaces and rows.count(row) > 1 else row
        for row, (_, spaces) in zip(rows, methods, strict=True)
    ]
    if again := next((name for name in names if names.count(name) > 1), None):
        raise AttarError(f"the suite has the method {again!r} twice; leave one out")
    return names


def without_values(table: Table) -> Table:
    """A table of a search for a terminal, which has no room for the best values; table.md has them."""
    return Table(table.title, [table.columns[0], *table.columns[2:]], [[row[0], *row[2:]] for row in table.rows])


def digest_of(recipe: Recipe) -> str:
    """16 hex digits of a recipe, without where its runs are."""
    return hashlib.blake2b(repr(replace(recipe, out=None)).encode(), digest_size=8).hexdigest()


def _searched(method: str | dict[str, Any]) -> dict[str, Any]:
    """The spaces of a method's section.

    Raises:
        AttarError: they are no section.
    """
    found = {} if isinstance(method, str) else method.get("search") or {}
    if not isinstance(found, dict):
        raise AttarError("search: expected a section of options, each with its [low, high]")
    return found


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def read_search(file: str | Path, overrides: list[str], trials: int, console: Console) -> Search:
    """A search over a suite's methods.

    Args:
        file: the suite; methods with a `search` key are searched.
        overrides: as for `read_suite`, without jobs= and share=: trials follow each other.
        trials: how many trials each method has.
        console: where to print.

    Raises:
        AttarError: the suite is wrong, no method has a `search` key, or Optuna is not installed.
    """
    path, options = Path(file), Options.of(overrides)
    if options.jobs is not None or options.share is not None:
        raise AttarError("a search runs one trial after the other; leave jobs= and share= out")
    suite = load_suite(path)
    if not any(isinstance(one, dict) and one.get("search") for one in suite["methods"]):
        raise AttarError(f"no method of {str(path)!r} has a search key, such as search: {{temperature: [1, 8]}}")
    if trials < 1:
        raise AttarError(f"--search must be the number of trials of each method, from 1, got {trials}")
    folder = Path(options.out or f"runs/bench-{path.stem}")
    return Search(suite, layered(suite["recipe"], layered(*parsed(options.recipe))), folder, trials, console)
