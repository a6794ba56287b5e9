"""Methods on tasks that are no image classification: the suite, the table of the docs, and refusals in one line."""

import io
import re

import pytest
from rich.console import Console

import attar
import generated
from attar.conformance.cases import NETWORKS
from sweeps import ONE_OF_EACH_KIND

OTHERS = [task for task in NETWORKS if task != "classification"]


def table():
    """The methods' rows of docs/tasks/index.md, by method."""
    rows = generated.TASKS.read_text(encoding="utf-8").partition("| runs on |")[2].splitlines()[2:]
    return {re.match(r"\| (\S+) \|", row)[1]: row for row in rows if row.startswith("|")}


def test_the_table_has_every_method_and_is_true_of_one_of_each_kind():
    pytest.importorskip("transformers")
    rows = table()
    assert [*rows] == generated.own_methods()
    for name in (*ONE_OF_EACH_KIND, "dkd"):
        assert rows[name] == generated.tasks_row(name)


@pytest.mark.slow
def test_the_whole_table_is_true():
    pytest.importorskip("transformers")
    assert table() == {name: generated.tasks_row(name) for name in generated.own_methods()}


@pytest.mark.parametrize(
    ("method", "task"), [("kd", "language"), ("supervised", "density"), ("skt", "density"), ("kd", "multilabel")]
)
def test_a_method_passes_the_suite_on_a_task(method, task):
    if task == "language":
        pytest.importorskip("transformers")
    assert len(attar.check_method(method, task=task)) == 10


@pytest.mark.parametrize("method", ["aekd", "encoderkd", "exchangekd"])
def test_methods_of_csi_feedback_pass_the_suite_on_channels(method):
    assert len(attar.check_method(method, task="channel")) == 10


@pytest.mark.slow
@pytest.mark.parametrize("task", OTHERS)
@pytest.mark.parametrize("method", ["kd", "dml", "sokd", "rkd", "pkt", "supervised"])
def test_methods_of_each_kind_pass_the_suite_on_every_task(method, task):
    assert len(attar.check_method(method, task=task)) == 10


def test_a_task_without_networks_asks_for_some():
    class Own(type(attar.create_task("density"))):
        """Like counting."""

    with pytest.raises(attar.AttarError, match="give networks="):
        attar.check_method("kd", task=Own())
    assert len(attar.check_method("supervised", task=Own(), networks=NETWORKS["density"])) == 10


@pytest.mark.parametrize(
    ("method", "message"),
    [("dkd", "compares logits, and networks of this task put out density"), ("atsc", "does not run on these networks")],
)
def test_a_method_that_does_not_fit_is_one_line_before_anything_is_written(method, message, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for number in range(8):
        for kind in ("cell", "dots"):
            image.new("RGB", (16, 16)).save(tmp_path / f"{number:03d}{kind}.png")
    net = {"name": "csrnet", "options": {"divisor": 64}}
    keys = {"teacher": net, "student": net, "data": {"name": "cells", "root": str(tmp_path)}, "batch_size": 2}
    with pytest.raises(attar.AttarError, match=message) as error:
        attar.distill(**keys, method=method, out=str(tmp_path / "run"), console=Console(file=io.StringIO()))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["catkd", "vid", "fitnet"])
def test_methods_of_maps_say_that_sentences_have_none(name):
    """Also where a batch has as many rows as the network is wide, which a convolution would take for an image."""
    pytest.importorskip("transformers")
    with pytest.raises(attar.AttarError, match="expected a map"):
        attar.check_method(name, task="text")
