"""Something moves in a terminal while a command reads, before anything can be printed; warnings come once."""

import io
import warnings

import pytest
from rich.console import Console

from attar.cli import measure
from attar.errors import AttarError
from attar.experiments import evaluation, launch
from attar.experiments.student_halving import Goal, search_students
from attar.extras import quiet
from attar.recipe import read_recipe


def console_of(printed):
    return Console(file=printed, force_terminal=True, color_system=None, width=80)


def test_evaluate_shows_that_it_reads(monkeypatch):
    def reading(*_, **__):
        raise AttarError("nothing there")

    printed = io.StringIO()
    monkeypatch.setattr(measure, "console", console_of(printed))
    monkeypatch.setattr(evaluation, "evaluate_network", reading)
    with pytest.raises(AttarError, match="nothing there"):
        measure.evaluate("student.onnx", ["photos"])
    assert "reading photos" in printed.getvalue()


@pytest.mark.parametrize("keys", [set(), None])
def test_a_run_shows_that_it_looks_up_networks(monkeypatch, tmp_path, keys):
    def looking(recipe):
        raise AttarError("no such network")

    printed = io.StringIO()
    monkeypatch.setattr(launch, "check_names", looking)
    recipe = read_recipe(teacher="resnet14", student="resnet8", out=str(tmp_path / "run"))
    with pytest.raises(AttarError, match="no such network"):
        launch.start(recipe, console_of(printed), keys=keys)
    assert "looking up the networks" in printed.getvalue()
    printed.truncate(0)
    with pytest.raises(AttarError, match="no such network"):
        search_students(read_recipe(teacher="resnet14", out=str(tmp_path / "search")), Goal(), console_of(printed))
    assert "looking up the networks" in printed.getvalue()


def test_a_line_goes_on_moving_while_an_exporter_is_quiet(monkeypatch):
    printed = io.StringIO()
    monkeypatch.setattr("sys.stdout", printed)
    with Console(force_terminal=True, color_system=None, width=80).status("onnx: writing") as status, quiet():
        print("lines of a package")
        status.update("onnx: checking")
        status._live.refresh()  # as it does by itself a few times a second
        shown = printed.getvalue()
    assert "onnx: checking" in shown
    assert "lines of a package" not in printed.getvalue()


def test_a_warning_is_one_line_however_often_it_comes(attar, monkeypatch):
    def warned(*_, **__):
        for number in (1, 2, 1):
            warnings.warn(f"net{number} begins anew", stacklevel=1)
        raise AttarError("enough")

    monkeypatch.setattr(evaluation, "evaluate_network", warned)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        found = [attar("evaluate", "student.onnx", "photos")[2] for _ in range(2)]
    assert found[0] == found[1]
    assert [found[0].count(f"net{number} begins") for number in (1, 2)] == [1, 1]
