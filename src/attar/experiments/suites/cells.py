"""The runs of a suite: every combination of method, pair and seed, and the teachers that are trained for them."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attar.errors import AttarError, unknown
from attar.experiments.build import repeats, teacher_parts, untrained_teachers
from attar.experiments.networks_of_runs import with_networks_of_runs
from attar.experiments.suites.suite_chains import suite_links, without_weights
from attar.recipe import Recipe, layered, normalise, read_recipe
from attar.train.schedules import for_epochs

# Keys of a recipe that may stand in a method's section beside its options; the others belong to pairs or to the suite.
OF_METHODS = (
    "teacher", "student", "data", "optim", "epochs", "batch_size", "alone", "select", "precision", "compile", "device",
    "jobs", "checkpoint_minutes", "metrics", "track",
)  # fmt: skip
# Keys whose values a suite sets itself, and what to write in their place.
OF_SUITES = {
    "seed": "give seeds: [3, 7] of the suite",
    "seeds": "give seeds of the suite: a number, or a list such as [3, 7]",
    "out": "give out= on the command line",
    "chain": "a chain stands in the place of a pair, pairs: [{chain: [resnet56, resnet32, resnet20]}]",
    "method": "give methods of the suite",
}
# Where the teachers are that the suite trains, and the weights of each.
TEACHERS, WEIGHTS = "teachers", "student.safetensors"
# Longer names of folders end in a digest.
LONGEST_NAME = 120


@dataclass(frozen=True)
class Cell:
    """One run of a suite.

    Attributes:
        row: the method with its options, as the table names it.
        column: the pair.
        seed: of this run.
        values: the recipe's values, as `read_recipe` takes them; a teacher that the suite trains has its weights.
        folder: where the run goes, below the suite's folder.
        teachers: the runs that train its teachers.
        untrained: the values without the weights of those teachers, with which a run is checked before they are there.
    """

    row: str
    column: str
    seed: int
    values: dict[str, Any]
    folder: Path
    teachers: tuple[Cell, ...] = ()
    untrained: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return ", ".join(filter(None, (self.row, self.column, f"seed {self.seed}")))

    @property
    def trains_teacher(self) -> bool:
        """Whether it trains a teacher of other runs, and has no place in the table."""
        return not self.column

    @property
    def kind(self) -> tuple[str, str]:
        """What runs have in common that differ in their seed only."""
        return self.row, self.column


def cells_of(suite: dict[str, Any], common: dict[str, Any], folder: Path) -> list[Cell]:
    """Every combination, the seeds outermost, so that a table of one seed is complete early.

    Args:
        suite: as `load_suite` gives it.
        common: the values that all runs share.
        folder: the suite's, for the weights of teachers that are trained there.

    Raises:
        AttarError: a key stands where it cannot, a recipe is wrong, or two runs are the same.
    """
    pairs = [pair for section in suite["pairs"] for pair in combinations(section)]
    methods = [one for section in map(named, suite["methods"]) for one in combinations(section)]
    for what, sections in (("recipe", [common]), ("pairs", pairs), ("methods", methods)):
        for section in sections:
            _check_keys(what, section)
    whole = [of_runs(layered(common, pair)) for pair in pairs]
    columns = column_names(whole, pairs)
    rows = [row_name(method) for method in methods]
    for what, names in (("pair", columns), ("method", rows)):
        if again := next((name for name in names if names.count(name) > 1), None):
            raise AttarError(f"the suite has the {what} {again!r} twice; leave one out")
    places = Places(folder)
    kinds = [
        kind_of(*pair, *method, places)
        for pair in zip(columns, whole, strict=True)
        for method in zip(rows, methods, strict=True)
    ]
    trained: dict[str, Cell] = {}
    cells = []
    for seed, kind in itertools.product(suite["seeds"], kinds):
        if kind.values.get("chain"):
            cells.append(chain_cell(kind, seed, folder, trained))
            continue
        runs = [one.at(seed) for one in kind.teachers.values()]
        runs = [trained.setdefault(one.title, one) for one in runs]
        weights = {
            number: str((folder / one.folder / WEIGHTS).resolve())
            for number, one in zip(kind.teachers, runs, strict=True)
        }
        cells.append(kind.at(seed, weights, tuple(runs)))
    return cells


def chain_cell(kind: Kind, seed: int, folder: Path, trained: dict[str, Cell]) -> Cell:
    """The run of a chain's last network, after its links, which are shared with other runs by their titles.

    Args:
        kind: with `chain` among its values.
        seed: of the run.
        folder: the suite's.
        trained: the runs before others, by their titles; links are added.
    """
    links, last = suite_links({**kind.values, "seed": seed}, folder)
    before: list[Cell] = []
    for place, values in links:
        row = str(place.parent.name)
        link = Cell(row, "", seed, values, place, tuple(before), without_weights(values))
        before.append(trained.setdefault(link.title, link))
    return Cell(kind.row, kind.column, seed, last, kind.folder / f"seed{seed}", tuple(before), without_weights(last))


@dataclass(frozen=True)
class Kind:
    """Runs that differ in their seed only.

    Attributes:
        row: as of a `Cell`.
        column: as of a `Cell`.
        values: those of the recipe, without a seed.
        folder: that of the seeds' folders, below the suite's.
        teachers: the teachers that are trained for it, by their number among its teachers.
        weights: the files of its teachers as the recipe has them; empty where one has none.
        again: what is added to the seed, of a teacher whose network is the student's or among those before it.
    """

    row: str
    column: str
    values: dict[str, Any]
    folder: Path
    teachers: dict[int, Kind] = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    again: int = 0

    def at(self, seed: int, weights: dict[int, str] | None = None, teachers: tuple[Cell, ...] = ()) -> Cell:
        """The run of a seed, with the weights of the teachers that are trained for it."""
        values = untrained = {**self.values, "seed": seed + self.again}
        if self.again:  # another network, of the same images
            data = values.get("data", {})
            values = untrained = {**values, "data": {**data, "split_seed": data.get("split_seed", seed)}}
        if weights:
            files = [weights.get(number, file) for number, file in enumerate(self.weights)]
            # How a teacher is trained is in the recipe of its own run.
            kept = {key: value for key, value in values["teacher"].items() if key not in ("epochs", "train_size")}
            values = {**values, "teacher": {**kept, "weights": ",".join(files)}}
        return Cell(self.row, self.column, seed, values, self.folder / f"seed{seed}", teachers, untrained)


def kind_of(column: str, pair: dict[str, Any], row: str, method: dict[str, Any], places: Places) -> Kind:
    """The runs of a method on a pair.

    Raises:
        AttarError: the recipe is wrong.
    """
    values = {"alone": "skip", **with_method(pair, method)}
    recipe = read_recipe(**values)
    # A teacher learns with the values of its pair, whatever the methods give: it is trained once for each seed.
    shared = layered(pair, {key: method[key] for key in ("teacher",) if key in method})
    teachers = {
        number: teacher_kind(number, name, shared, recipe, places)
        for number, name in untrained_teachers(recipe.teacher)
    }
    weights = tuple(file or "" for _, file in teacher_parts(recipe.teacher))
    return Kind(row, column, values, places.of(column, row), teachers, weights)


def named(method: str | dict[str, Any]) -> dict[str, Any]:
    """A method's section; `search` is for searches only."""
    section = {"name": method} if isinstance(method, str) else method
    return {key: value for key, value in section.items() if key != "search"}


def combinations(section: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A section for each combination of the values in its lists; a list within a list is one value.

    >>> list(combinations({"name": "kd", "temperature": [2, 4]}))
    [{'name': 'kd', 'temperature': 2}, {'name': 'kd', 'temperature': 4}]
    >>> list(combinations({"optim": {"milestones": [[0.5, 0.75]]}}))
    [{'optim': {'milestones': [0.5, 0.75]}}]
    """
    keys, values = list(section), list[list[Any]]()
    for key in keys:
        value = section[key]
        if isinstance(value, dict):
            values.append(list(combinations(value)))
        elif isinstance(value, list) and key == "chain" and not any(isinstance(one, list) for one in value):
            values.append([value])  # the networks of one chain
        elif isinstance(value, list):
            if not value:
                raise AttarError(f"{key}: [] of a suite is no value; give one, or [[]] for an empty list")
            values.append(value)
        else:
            values.append([value])
    for chosen in itertools.product(*values):
        yield dict(zip(keys, chosen, strict=True))


def one_value(section: dict[str, Any]) -> dict[str, Any]:
    """A section as `combinations` reads it, every list of it one value.

    >>> next(combinations(one_value({"optim": {"milestones": [0.5, 0.75]}})))
    {'optim': {'milestones': [0.5, 0.75]}}
    """
    return {
        key: one_value(value) if isinstance(value, dict) else [value] if isinstance(value, list) else value
        for key, value in section.items()
    }


def with_method(common: dict[str, Any], section: dict[str, Any]) -> dict[str, Any]:
    """The values of a pair with a method's section: keys of a recipe are the recipe's, others the method's options."""
    known = {field.name for field in dataclasses.fields(Recipe)}
    if others := [key for key in section if key in known - {*OF_METHODS, *OF_SUITES}]:
        raise AttarError(f"{others[0]} is the same for all methods of a suite; write it under recipe:")
    recipe = {key: value for key, value in section.items() if key in OF_METHODS}
    method = {key: value for key, value in section.items() if key not in OF_METHODS}
    return {**layered(common, recipe), "method": method}


def row_name(method: dict[str, Any]) -> str:
    """A method with everything that its section gives.

    >>> row_name({"name": "kd", "temperature": 2, "optim": {"lr": 0.05}})
    'kd temperature=2 optim.lr=0.05'
    """
    given = flat({key: value for key, value in method.items() if key != "name"})
    return " ".join([method["name"], *(f"{key}={_shown(value)}" for key, value in given.items())])


def control_of(name: str, rows: list[str]) -> str:
    """The row of a control: its whole label, or a method's name that only one row has.

    Raises:
        AttarError: no row or several have it.
    """
    if name in rows:
        return name
    found = [row for row in rows if row.split(" ")[0] == name]
    if len(found) > 1:
        raise AttarError(f"control {name!r} is the name of {len(found)} rows; give one of: {'; '.join(found)}")
    if not found:
        raise unknown("control", name, rows)
    return found[0]


def column_names(whole: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> list[str]:
    """Teacher and student of each pair; pairs of one name with the keys in which they differ from each other.

    Args:
        whole: each pair with the common values.
        pairs: the keys that each gives itself.
    """
    names = []
    for one in whole:
        values = normalise(one)
        roles = (values.get(role, {}).get("name") for role in ("teacher", "student"))
        names.append(" -> ".join(filter(None, values.get("chain") or roles)))
    flats = [flat(normalise(pair)) for pair in pairs]
    for name in {name for name in names if names.count(name) > 1}:
        alike = [number for number, other in enumerate(names) if other == name]
        keys = dict.fromkeys(key for number in alike for key in flats[number])
        apart = [key for key in keys if len({repr(flats[number].get(key)) for number in alike}) > 1]
        for number in alike:
            own = [f"{key}={_shown(flats[number][key])}" for key in apart if key in flats[number]]
            names[number] = " ".join([name, *own])
    return names


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested sections by their dotted keys; `options` and `name` are left out of keys.

    >>> flat({"optim": {"lr": 0.1}, "data": {"name": "digits"}})
    {'optim.lr': 0.1, 'data': 'digits'}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        own = f"{prefix}.{key}" if prefix else str(key)
        own = prefix if prefix and key in ("name", "options") else own
        found |= flat(value, own) if isinstance(value, dict) and value else {own: value}
    return found


def of_runs(values: dict[str, Any]) -> dict[str, Any]:
    """A pair's values with the networks of the runs that stand for its teacher and its student."""
    recipe = read_recipe(**values)
    found = with_networks_of_runs(recipe)
    changed = {}
    for role in ("teacher", "student"):
        if (new := getattr(found, role)) != getattr(recipe, role):
            changed[role] = {**values[role], "name": new.name, "weights": new.weights, "options": new.options}
    return {**values, **changed}


def teacher_kind(number: int, name: str, values: dict[str, Any], recipe: Recipe, places: Places) -> Kind:
    """The runs that train a teacher which comes without weights.

    Args:
        number: its place among the teachers.
        name: the network's.
        values: those of its pair.
        recipe: that of a run which learns from it.
        places: where it goes.
    """
    teacher, shared_epochs = recipe.teacher, values.get("epochs", Recipe.epochs)
    own = {
        **{key: value for key, value in values.items() if key not in ("teacher", "method")},
        "student": {"name": name, "options": dict(teacher.options)},
        "method": "supervised",
        "data": {**values.get("data", {}), **({"train_size": teacher.train_size} if teacher.train_size else {})},
        "epochs": teacher.epochs or shared_epochs,
        "alone": "skip",
    }
    if (optim := read_recipe(**own).optim) != (fewer := for_epochs(optim, own["epochs"], shared_epochs)):
        own["optim"] = {**values.get("optim", {}), "warmup": fewer.warmup}
    again = repeats(recipe)[number]
    alike = repr((again, sorted(flat(own).items(), key=str)))
    label = places.teacher(f"teacher{number + 1 if number else ''} {name}", alike)
    return Kind(label, "", own, places.of_teacher(label), again=again)


class Places:
    """The folders of a suite's runs, one for each row and column, and names of teachers that are told apart.

    Args:
        folder: the suite's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owners: dict[tuple[str, str], str] = {}
        self._teachers: dict[str, dict[str, str]] = {}

    def of(self, column: str, row: str) -> Path:
        """The folder of a column and a row."""
        return Path(self._own("", column), self._own(column, row))

    def of_teacher(self, label: str) -> Path:
        """The folder of a teacher that the suite trains."""
        return Path(TEACHERS, self._own(TEACHERS, label))

    def _own(self, parent: str, label: str) -> str:
        """A folder's name that no other label has; names are the same to some systems whatever their case."""
        name = folder_name(label)
        if self._owners.setdefault((parent, name.lower()), label) != label:
            name = f"{name}-{_digest(label)}"
        return name

    def teacher(self, label: str, alike: str) -> str:
        """A teacher's label; other trainings of a network of that name get a number."""
        known = self._teachers.setdefault(label, {})
        return known.setdefault(alike, label if not known else f"{label} {len(known) + 1}")


def folder_name(label: str) -> str:
    """A label as a folder's name, not longer than a file system takes.

    >>> folder_name("resnet56 -> resnet20"), folder_name("kd temperature=2")
    ('resnet56_-_resnet20', 'kd_temperature=2')
    """
    name = re.sub(r"[^\w.+=-]+", "_", label)
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}-{_digest(label)}"


def _digest(label: str) -> str:
    return hashlib.sha256(label.encode()).hexdigest()[:8]


def _shown(value: Any) -> str:
    """A value in a label, as it is written in a suite."""
    plain = {"True": "true", "False": "false", "None": "null"}
    return plain.get(str(value), str(value))


def _check_keys(what: str, section: dict[str, Any]) -> None:
    """Raise where a key of the suite stands in a section."""
    for key, advice in OF_SUITES.items():
        if key in section and (what, key) not in (("methods", "method"), ("pairs", "chain")):
            raise AttarError(f"{what}: {key} does not stand here; {advice}")
    if what != "methods":
        return
    for role in ("teacher", "student", "data"):
        given = section.get(role)
        if isinstance(given, str) or (isinstance(given, dict) and "name" in given):
            raise AttarError(f"methods: {role}: {given} names other networks or data; that is another pair")
