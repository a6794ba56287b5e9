"""Runs of a suite that were trained with another version of the user's file are not pooled with today's."""

import json

import pytest

from attar import plugins
from attar.errors import AttarError
from attar.experiments.suites.own_code import check_same_code
from attar.methods.registry import METHODS
from attar.models.registry import MODELS
from attar.recipe import read_recipe

from .test_bench import suite

FILE = """
import functools

import attar
from attar import losses

@attar.register("own_code_method", title="m", paper="", year=2026, family="offline")
class Mine(attar.Offline):
    \"\"\"m\"\"\"
    def transfers(self):
        yield self.label_edge()
        yield attar.Transfer("teacher.logits", "student.logits", losses.KLDivergence(2.0))

def network(*sizes):
    return attar.create_model("resnet8", *sizes)

attar.register_model("own_code_network", family="mine", description="d", build=functools.partial(network))
"""
SUITE = """
methods: [supervised, own_code_method]
pairs: [{teacher: {name: resnet8, epochs: 1, precision: float32}, student: resnet8}]
seeds: 1
recipe: {data: {name: digits, train_size: 40}, epochs: 1, batch_size: 20, precision: float32}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    place = tmp_path_factory.mktemp("own") / "own_code_file.py"
    place.write_text(FILE)
    plugins.import_files([place])
    yield place
    METHODS._entered.pop("own_code_method")
    MODELS._entered.pop("own_code_network")


def change(folder):
    """As if the file had been another when the run was trained."""
    entries = json.loads((folder / "imports.json").read_text())
    for entry in entries:
        entry["sha256"] = "0" * 64
    (folder / "imports.json").write_text(json.dumps(entries))


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"method": "own_code_method"}, True),
        ({"method": "kd+own_code_method"}, True),
        ({"method": "kd", "student": "own_code_network"}, True),
        ({"method": "kd", "teacher": "resnet8,own_code_network"}, True),
        ({"method": "kd"}, False),
    ],
)
def test_only_runs_that_need_the_file_are_refused(file, tmp_path, given, refused):
    plugins.record_imports(tmp_path)
    recipe = read_recipe(**{"teacher": "resnet8", "student": "resnet8", **given})
    check_same_code(tmp_path, recipe)
    change(tmp_path)
    if not refused:
        check_same_code(tmp_path, recipe)
        return
    with pytest.raises(AttarError, match=r"it was trained with another own_code_file.py; put that back, delete"):
        check_same_code(tmp_path, recipe)


def test_a_suite_with_a_changed_method_does_not_go_on(file, tmp_path):
    bench = suite(tmp_path, SUITE)
    bench.run()
    for cell in bench.cells:
        change(bench.folder / cell.folder)
    more = SUITE.replace("seeds: 1", "seeds: 2")
    message = r"own_code_method, resnet8 -> resnet8, seed 0: it was trained with another own_code_file.py"
    with pytest.raises(AttarError, match=message) as caught:
        suite(tmp_path, more).run()
    assert "supervised" not in str(caught.value)
