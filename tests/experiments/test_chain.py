"""Chains: every link a run, each learning from the one before it or from all."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from attar.deploy import load
from attar.errors import AttarError, Stopped
from attar.experiments import launch
from attar.experiments.build import SEEDS_APART
from attar.experiments.chain import chain_links, check_chain, link_recipe, links_in
from attar.recipe import read_recipe

KEYS = {
    "data": {"name": "digits", "train_size": 64},
    "epochs": 1,
    "batch_size": 32,
    "alone": "skip",
    "precision": "float32",
    "jobs": 1,
    "compile": False,
}


def recipe(**keys):
    return read_recipe(**{**KEYS, "chain": ["resnet14", "resnet8", "resnet8"], "method": "takd", **keys})


def links(one, folder=Path("chain")):
    """The recipes of the links as they would run."""
    return list(chain_links(one, links_in(folder)))


def test_each_link_learns_from_the_one_before_it():
    first, second = links(recipe(alone="train"))
    assert (first.teacher.name, first.teacher.weights, first.student.name) == ("resnet14", None, "resnet8")
    assert first.out == "chain/link1-resnet8"
    assert (first.alone, second.alone) == ("skip", "train")
    assert second.teacher.name == "resnet8"
    assert second.teacher.weights == "chain/link1-resnet8/student.safetensors"
    assert first.chain == second.chain == []


def test_each_link_learns_from_all_before_it():
    chain = ["resnet20", "resnet14", "resnet8", "resnet8"]
    *_, last = links(recipe(chain=chain, chain_from="all", method="dgkd"))
    assert last.teacher.name == "resnet20,resnet14,resnet8"
    assert last.teacher.weights == ",".join(
        [f"chain/{part}/student.safetensors" for part in ("link1-resnet14/teacher", "link1-resnet14", "link2-resnet8")]
    )


def test_generations_of_a_network_have_seeds_of_their_own():
    made = links(recipe(chain=["resnet8"] * 4, method="bornagain", seed=3))
    assert [link.seed for link in made] == [3 + 2 * SEEDS_APART, 3 + 4 * SEEDS_APART, 3]
    assert [link.data.split_seed for link in made] == [3, 3, None]
    assert {link.seed for link in links(recipe(chain=["resnet20", "resnet14", "resnet8"], seed=3))} == {3}


def test_networks_with_weights_are_read():
    (only,) = links(recipe(teacher={"weights": "a.pth,b.pth"}))
    assert (only.teacher.name, only.teacher.weights, only.out) == ("resnet8", "b.pth", "chain/link2-resnet8")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"chain": ["resnet8"]}, "give two networks or more"),
        ({"chain": ["resnet14", "resnte8"]}, "unknown network 'resnte8'"),
        ({"student": "resnet8"}, "leave teacher= and student= out"),
        ({"seeds": 2}, "runs one seed"),
        ({"method": "dml"}, "'dml' has no teacher"),
        ({"chain_from": "all", "method": "fitnet"}, "'fitnet' takes one teacher; choose"),
        ({"teacher": {"weights": "a,b,c,d"}}, "more files than the chain has networks"),
        ({"method": {"name": "kd", "teachers": "mean"}}, "each link has one; give chain_from=all"),
        ({"chain_from": "all", "method": "dgkd", "teacher": {"options": {"widths": [4]}}}, "are the first network's"),
    ],
)
def test_what_cannot_run_is_refused_first(keys, message):
    with pytest.raises(AttarError, match=message):
        check_chain(recipe(**keys))


def test_the_last_network_has_no_weights():
    with pytest.raises(AttarError, match="nothing is left to train"):
        links(recipe(teacher={"weights": "a,b,c"}))


def test_a_chain_is_resumed_at_the_link_that_was_stopped(tmp_path, monkeypatch):
    one, console = recipe(out=str(tmp_path / "chain")), Console(file=io.StringIO())
    began, start = [], launch.start

    def stopping(link, *arguments, **keys):
        if not link.chain:
            began.append(link.out)
            if len(began) == 2:
                raise Stopped(link.out)
        return start(link, *arguments, **keys)

    monkeypatch.setattr(launch, "start", stopping)
    with pytest.raises(Stopped, match=str(tmp_path / "chain")):
        start(one, console)
    first = tmp_path / "chain" / "link1-resnet8" / "student.safetensors"
    written = first.stat().st_mtime_ns
    monkeypatch.setattr(launch, "start", start)
    summary = launch.resume(tmp_path / "chain", console)
    assert first.stat().st_mtime_ns == written
    assert summary.folder == tmp_path / "chain" / "link2-resnet8"
    assert load(summary.folder)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    again = launch.resume(tmp_path / "chain", console)
    assert again.folder == summary.folder


@pytest.mark.slow
def test_changed_inputs_are_accepted_by_every_link(tmp_path, monkeypatch):
    one, accepted = recipe(out=str(tmp_path / "chain")), []
    launch.start(one, Console(file=io.StringIO()))
    resume = launch.resume

    def noting(folder, console=None, beside=None, accept_changes=False):
        accepted.append(accept_changes)
        return resume(folder, console, beside, accept_changes)

    monkeypatch.setattr(launch, "resume", noting)
    noting(tmp_path / "chain", accept_changes=True)
    assert accepted == [True] * 3


def test_options_of_the_student_are_the_last_ones():
    one = recipe(student={"options": {"widths": [8, 16, 32, 64]}})
    first, second = (link_recipe(one, number, [("resnet14", None)]) for number in (1, 2))
    assert first.student.options == {}
    assert second.student.options == {"widths": [8, 16, 32, 64]}


def test_options_of_the_teacher_are_the_first_networks():
    first, second = links(recipe(teacher={"options": {"widths": [8, 16, 32, 64]}}))
    assert (first.teacher.options, second.teacher.options) == ({"widths": [8, 16, 32, 64]}, {})


def test_a_rule_for_several_teachers_begins_where_there_are_several():
    first, second = links(recipe(chain_from="all", method={"name": "kd", "teachers": "entropy"}))
    assert (first.method.options, second.method.options) == ({}, {"teachers": "entropy"})


def test_networks_of_a_chain_may_stand_in_one_text():
    assert recipe(chain="resnet14, resnet8").chain == ["resnet14", "resnet8"]


def test_a_later_link_that_cannot_run_is_refused_before_anything_is_written(tmp_path):
    one = recipe(chain=["resnet14", "resnet8", "vgg8"], method="fsp", out=str(tmp_path / "chain"))
    with pytest.raises(AttarError, match="link resnet8 to vgg8: method 'fsp' compares channels"):
        launch.start(one, Console(file=io.StringIO()))
    assert not (tmp_path / "chain").exists()


def test_settings_that_nobody_gave_fit_the_data(tmp_path, monkeypatch):
    one, begun = recipe(epochs=10, batch_size=128, out=str(tmp_path / "chain")), []
    monkeypatch.setattr(launch, "follow_chain", lambda recipe, *arguments: begun.append(recipe))
    launch.start(one, Console(file=io.StringIO()), keys={"chain"})
    assert (begun[0].epochs, begun[0].batch_size, begun[0].chain) == (60, 8, one.chain)
