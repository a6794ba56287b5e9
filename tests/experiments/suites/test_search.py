"""Searches: the spaces of a suite, and trials that are scored on the validation set alone."""

import io
import json
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from attar.errors import AttarError, Stopped
from attar.experiments.job import Job
from attar.experiments.suites import search as room
from attar.experiments.suites.bench import read_suite
from attar.experiments.suites.cells import folder_name
from attar.experiments.suites.search import Search, read_search
from attar.experiments.suites.search_space import Space, chosen, spaces_of
from attar.recipe import read_recipe, to_yaml
from attar.safety.locks import InUseError

SUITE = {
    "methods": ["supervised", {"name": "kd", "search": {"temperature": [1, 8], "ce": {"choices": [0.1, 0.5]}}}],
    "pairs": [{"teacher": {"name": "resnet14", "weights": "a.pth"}, "student": "resnet8"}],
    "seeds": 2,
    "recipe": {"data": {"name": "digits", "val_fraction": 0.2}, "epochs": 9},
}


@pytest.fixture
def search(tmp_path, monkeypatch):
    """Makes a search whose trials are not trained: a temperature's score is how near it is to 4."""
    pytest.importorskip("optuna")
    monkeypatch.setattr(Search, "_check", lambda *_: None)
    monkeypatch.setattr(Search, "_train_teachers", lambda *_: None)

    def fit(self, cell, place, trial, study):
        options = room.read_recipe(**cell.values).method.options
        for epoch in range(1, 10):
            trial.report(90 - abs(options.get("temperature", 4) - 4) * 5 + epoch / 10, epoch)
            if epoch < study.epochs and trial.should_prune():
                raise room.Pruned

    monkeypatch.setattr(Search, "_fit", fit)

    def make(trials=8, suite=SUITE, **keys):
        file = tmp_path / "suite.yaml"
        file.write_text(yaml.safe_dump({**suite, **keys}))
        return read_search(file, [f"out={tmp_path / 'out'}"], trials, Console(file=io.StringIO(), width=100))

    return make


def test_the_suites_of_the_page_can_be_run(tmp_path):
    pytest.importorskip("optuna")
    page = (Path(__file__).parents[3] / "docs" / "bench.md").read_text()
    whole, searched = map(yaml.safe_load, re.findall(r"^```yaml\n(.*?)^```", page, flags=re.M | re.S))
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(whole))
    assert len(read_suite(file, [], Console()).cells) == 4 * 3 * 3
    recipe = {"data": {"name": "digits", "val_fraction": 0.2, "train_size": 60}, "epochs": 1, "batch_size": 20}
    pair = {"teacher": "resnet8", "student": "resnet8"}
    file.write_text(yaml.safe_dump({**searched, "pairs": [pair], "recipe": {**recipe, "precision": "float32"}}))
    found = read_search(file, [f"out={tmp_path / 'out'}"], 1, Console(file=io.StringIO()))
    for study in found._studies():
        found._check(study)


def records(folder, row="kd"):
    (file,) = (folder / "search").glob(f"*/{row}/trials.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_search_finds_the_best_values_and_writes_their_suite(search):
    found = search()
    (table,) = found.run()
    trials = records(found.folder)
    assert len(trials) == 8
    best = max((one for one in trials if one["state"] == "COMPLETE"), key=lambda one: one["value"])
    assert table.rows[1][-1] == f"{best['value']:.2f}"
    assert table.rows[0][:3] == ["supervised", "", "1"]
    (file,) = (found.folder / "search").glob("best-*.yaml")
    bench = read_suite(file, [], Console())
    values = best["values"]
    rows = [set(cell.row.split()) for cell in bench.cells]
    assert rows == [{"supervised"}, {"kd", f"temperature={values['temperature']}", f"ce={values['ce']}"}] * 2
    assert {cell.seed for cell in bench.cells} == {0, 1}


def test_halving_ends_trials_after_a_third_of_the_epochs(search):
    """A ninth would be one epoch, which shows nothing; one that reached its last epoch is complete."""
    found = search(9)
    found.run()
    trials = records(found.folder)
    pruned = [one for one in trials if one["state"] == "PRUNED"]
    assert pruned
    assert {len(one["epochs"]) for one in pruned} == {3}
    assert {len(one["epochs"]) for one in trials if one["state"] == "COMPLETE"} == {9}


def test_a_search_that_was_stopped_goes_on_with_the_same_trials(search, tmp_path, monkeypatch):
    whole = search(5)
    whole.run()
    expected = records(whole.folder)
    (tmp_path / "out").rename(tmp_path / "whole")
    fit, left = Search._fit, [4]

    def stopping(*arguments):
        left[0] -= 1
        if left[0] == 0:
            raise Stopped
        fit(*arguments)

    monkeypatch.setattr(Search, "_fit", stopping)
    with pytest.raises(Stopped):
        search(5).run()
    assert len(records(tmp_path / "out")) == 2
    search(5).run()
    assert records(tmp_path / "out") == expected


def test_a_trial_that_fails_is_not_the_end(search, monkeypatch):
    def failing(*_):
        raise ValueError("no")

    monkeypatch.setattr(Search, "_fit", failing)
    found = search(2)
    with pytest.raises(AttarError, match=r"every trial of supervised on resnet14 -> resnet8 failed \(no\); give other"):
        found.run()
    assert "| kd |  | 2 | 0 | 2 | failed |" in (found.folder / "search" / "table.md").read_text()
    assert not list(found.folder.rglob("best-*.yaml"))
    assert [one["reason"] for one in records(found.folder)] == ["no", "no"]


def test_one_that_fails_throughout_leaves_the_others_their_suite(search, monkeypatch):
    fit = Search._fit

    def failing(self, cell, *arguments):
        if cell.row.startswith("kd"):
            raise ValueError("no")
        fit(self, cell, *arguments)

    monkeypatch.setattr(Search, "_fit", failing)
    found = search(2)
    with pytest.raises(AttarError, match=r"every trial of kd on .* failed \(no\)"):
        found.run()
    (file,) = found.folder.rglob("best-*.yaml")
    assert yaml.safe_load(file.read_text())["methods"] == [{"name": "supervised"}]


def test_a_method_beside_its_searched_form_has_trials_of_its_own(search):
    searched = SUITE["methods"][1]
    found = search(3, methods=["kd", searched, {**searched, "search": {"temperature": [1, 2]}}], control="kd")
    (table,) = found.run()
    names = ["kd", "kd search=ce,temperature", "kd search=temperature"]
    assert [row[0] for row in table.rows] == names
    assert [len(records(found.folder, folder_name(name))) for name in names] == [1, 3, 3]
    (file,) = found.folder.rglob("best-*.yaml")
    assert read_suite(file, [], Console()).control == "kd"
    with pytest.raises(AttarError, match="the suite has the method 'kd search=ce,temperature' twice; leave one out"):
        search(1, methods=[searched, searched]).run()


@pytest.mark.parametrize("control", ["kd optim.lr=0.05", "kd search=ce,temperature"])
def test_the_suite_of_the_best_has_the_same_control(search, control):
    own = {"name": "kd", "optim": {"lr": 0.05}}
    found = search(2, methods=["kd", own, {**SUITE["methods"][1], "name": "kd"}], control=control)
    found.run()
    (file,) = found.folder.rglob("best-*.yaml")
    row = read_suite(file, [], Console()).control
    assert row == control if control.endswith("0.05") else "temperature=" in row


def test_trials_of_another_recipe_are_no_part_of_a_search(search):
    search(2).run()
    other = {**SUITE["recipe"], "optim": {"lr": 0.1}}
    with pytest.raises(AttarError, match=r"trials.jsonl has trials of another recipe; give its keys again"):
        search(3, recipe=other).run()
    search(3).run()


@pytest.mark.parametrize("trouble", [InUseError("in use"), OSError("no space left on device")])
def test_trouble_from_outside_is_no_failed_trial(search, monkeypatch, trouble):
    def failing(*_):
        raise trouble

    fit = Search._fit
    monkeypatch.setattr(Search, "_fit", failing)
    found = search(2)
    with pytest.raises(type(trouble)):
        found.run()
    assert not list(found.folder.rglob("trials.jsonl"))
    monkeypatch.setattr(Search, "_fit", fit)
    assert found.run()[0].rows[1][4] == "0"


def test_a_trial_that_began_with_other_values_is_refused(tmp_path):
    pytest.importorskip("optuna")
    recipe = {"data": {"name": "digits", "val_fraction": 0.2, "train_size": 60}, "epochs": 1, "batch_size": 20}
    tree = {"methods": [{"name": "dml", "search": {"temperature": [1, 8]}}], "pairs": [{"student": "resnet8"}]}
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump({**tree, "recipe": {**recipe, "precision": "float32"}}))

    def begun():
        found = read_search(file, [f"out={tmp_path / 'out'}"], 1, Console(file=io.StringIO()))
        return found, next(found._studies())

    found, study = begun()
    place = study.folder / "trial0"
    place.mkdir(parents=True)
    values = room.suggested(study.spaces, found._asked(study)[1])
    (place / "recipe.yaml").write_text(to_yaml(read_recipe(**found._cell(study, values).values, out=str(place))))
    found._check(study)
    file.write_text(yaml.safe_dump({**tree, "recipe": {**recipe, "precision": "float32", "optim": {"lr": 0.4}}}))
    found, study = begun()
    with pytest.raises(AttarError, match=r"trial0 holds a run with optim=.*choose another out="):
        found._check(study)


def test_what_another_search_left_of_a_later_trial_is_refused(search, monkeypatch):
    """Not the first trial alone: the scores that lie there would count as the trial's."""
    found, seen = search(3), []

    def refused(place, values, job):
        seen.append((place.name, values["method"]["name"]))
        raise AttarError(f"{place} holds another run")

    monkeypatch.setattr(room, "check_begun", refused)
    monkeypatch.setattr(room, "Job", lambda *_, **__: None)
    (study,) = [one for one in found._studies() if one.spaces]
    (study.folder / "trial1").mkdir(parents=True)
    (study.folder / "trial1" / "recipe.yaml").write_text("")
    with pytest.raises(AttarError, match="trial1 holds another run"):
        found.run()
    assert seen == [("trial1", "kd")]
    assert len(records(found.folder)) == 1


@pytest.mark.parametrize("option", ["jobs=2", "share=1/2"])
def test_what_has_no_part_in_a_search_is_refused(tmp_path, option):
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(SUITE))
    with pytest.raises(AttarError, match="leave jobs= and share= out"):
        read_search(file, [option], 1, Console(quiet=True))


def test_trials_never_touch_the_test_set(tmp_path, monkeypatch):
    """A real trial, its checkpoint removed in the end."""
    pytest.importorskip("optuna")
    pair = {"student": "resnet8"}
    recipe = {"data": {"name": "digits", "val_fraction": 0.2, "train_size": 60}, "epochs": 1, "batch_size": 20}
    suite = {"methods": [{"name": "dml", "search": {"temperature": [1, 8]}}], "pairs": [pair], "recipe": recipe}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    found = read_search(
        tmp_path / "suite.yaml", [f"out={tmp_path / 'out'}", "precision=float32"], 1, Console(file=io.StringIO())
    )
    fit = Job.validate

    def validate(self, on_epoch):
        object.__setattr__(self.splits.test, "images", None)
        fit(self, on_epoch)

    monkeypatch.setattr(Job, "validate", validate)
    found.run()
    (place,) = (tmp_path / "out" / "search").glob("resnet8/dml/trial0")
    assert records(tmp_path / "out", "dml")[0]["state"] == "COMPLETE"
    assert not {"scores.json", "results.json", "checkpoint.pt"} & {file.name for file in place.iterdir()}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"methods": ["kd"]}, "has a search key"),
        ({"methods": [{"name": "kd", "search": {"temperature": 3}}]}, r"search.temperature: expected \[low, high\]"),
        ({"methods": [{"name": "kd", "search": {"temperature": [8, 1]}}]}, "low below high"),
        ({"methods": [{"name": "kd", "search": {"ce": {"low": 0, "high": 1, "log": True}}}]}, "low above 0"),
        ({"methods": [{"name": "kd", "search": {"ce": {"low": 0, "hihg": 1}}}]}, "did you mean 'high'"),
        ({"methods": [{"name": "kd", "search": {"ce": {"choices": [1]}}}]}, "two or more"),
    ],
)
def test_mistakes_are_one_line(search, keys, message):
    with pytest.raises(AttarError, match=message):
        search(**keys).run()


def test_spaces_are_what_a_section_gives():
    tree = {"weights": {"a->b": {"low": 0.1, "high": 10, "log": True}}, "k": {"low": 1, "high": 5, "int": True}}
    assert spaces_of(tree) == {("weights", "a->b"): Space(0.1, 10, log=True), ("k",): Space(1, 5, whole=True)}
    section = {"name": "kd", "weights": {"c->d": 1}, "search": tree}
    assert chosen(section, {("weights", "a->b"): 2.0}) == {"name": "kd", "weights": {"c->d": 1, "a->b": 2.0}}
    assert section["weights"] == {"c->d": 1}
