"""What `attar suggest` prints fits a terminal of 80 columns, and its JSON is whole."""

import inspect
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

import attar
import attar as library
from attar.deploy import save
from attar.methods import list_methods, method_info
from attar.profiling import Latency, parameters
from attar.recipe import read_recipe, to_yaml
from attar.report.suggestions import next_command, stages_note, suggestion_json, suggestion_notes, suggestion_table

RESNETS = ["resnet8", "resnet14", "resnet20"]


def found(**budget):
    return library.suggest(
        "resnet56", among=RESNETS, clock=lambda net, *_: Latency(parameters(net) / 1e5, 0.01), **budget
    )


def printed(table, capsys):
    Console(width=80).print(table)
    return capsys.readouterr().out


def test_a_student_of_smaller_images_is_reported():
    found = library.suggest(
        "resnet20", image_size=16, teacher_size=32, among=["resnet8"], clock=lambda *_: Latency(1.0, 0.0)
    )
    assert "16x16, the teacher 32x32" in suggestion_table(found).title
    assert "student=resnet8 student.options.input_size=16 " in next_command(found)
    assert next_command(found).endswith("data.image_size=32")


def test_students_beside_their_teacher(capsys):
    some = found(latency="2ms", params="300k")
    table = suggestion_table(some)
    assert table.title == "Students of resnet56: 2 ms, 300 k parameters (32x32, batch 1, 1 thread)"
    assert table.rows[0][0] == "resnet56"
    assert table.rows[0][-2:] == ["", ""]
    assert table.rows[1] == ["resnet14", "737 kB", "26.7", "1.81 (0.01)", "4.8x", "4.8x"]
    assert "…" not in printed(table, capsys)
    notes = suggestion_notes(some)
    assert "no promise of accuracy" in notes
    assert "All have stages" in notes
    assert "published weights" not in notes
    assert "Left out: 1 timed and over the budget." in notes
    command = next_command(some)
    assert command.startswith("attar distill teacher=resnet56 teacher.weights=FILE student=resnet14 data=folder ")


def test_notes_of_one_student_are_in_the_singular():
    notes = suggestion_notes(library.suggest("resnet56", among=["resnet8"], clock=lambda *_: Latency(1.0, 0.0)))
    assert "It has stages: every method can work inside it." in notes


def test_students_without_stages_are_named_once():
    plain = [replace(one, stages=0) for one in found().students[:2]]
    assert stages_note(plain[:1])[0].startswith(f"Without stages: {plain[0].name}. The ")
    needing = sum("stages" in method_info(name).needs for name in list_methods())
    assert f" The {needing} methods that need stages (`attar list methods`) do not run there" in stages_note(plain)[0]
    assert stages_note(plain)[0].startswith("Without stages: all of them. The ")


def test_the_nearest_where_nothing_fits():
    none = found(latency="0.2ms", size="1MB")
    rows = suggestion_table(none).rows
    assert rows[0][-1] == "teacher"
    assert rows[1][0] == "resnet8"
    assert rows[1][-1] == "latency 4.19x"
    assert "cost / budget" in suggestion_notes(none)
    assert suggestion_json(none)["next"] is None


def test_where_nothing_is_smaller_nothing_misses_by_the_least():
    notes = suggestion_notes(replace(found(latency="0.2ms", size="1MB"), nearest=()))
    assert notes.startswith("No network that was looked at is smaller than the teacher; --among")


def test_times_taken_on_a_busy_machine_are_said_to_be():
    assert "quiet" not in suggestion_notes(found())
    busy = library.suggest("resnet56", among=["resnet8"], clock=lambda *_: Latency(1.0, 0.5))
    assert "2 of these times spread widely" in suggestion_notes(busy)


def test_the_command(attar, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    pattern = ["--among", "resnet8"]
    status, out, err = attar("suggest", "resnet20", "--latency", "10s", *pattern, "--json")
    assert (status, err) == (0, "")
    read = json.loads(out)
    assert read["budget"] == {"latency": 10_000}
    assert [one["name"] for one in read["students"]] == ["resnet8"]
    assert read["students"][0]["latency"].keys() == {"median", "spread"}
    status, out, err = attar("suggest", "resnet20", *pattern, "--classes", "10")
    assert (status, err) == (0, "")
    assert re.search(r"^resnet8 +\d+ kB", out.replace("\n ", "\n"), re.MULTILINE)
    assert "Next:\nattar distill teacher=resnet20 " in out
    status, out, _ = attar("suggest", "resnet20", *pattern, "--size", "1kB")
    assert status == 1
    assert "No student of resnet20: 1 kB" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet21"], "unknown network 'resnet21'"),
        (["resnet20", "--size", "10M"], "size is '10M': the unit 'M' is unknown; give 10MB or 10MiB"),
        (["resnet20", "--among", "x*"], "no network matches 'x*'"),
    ],
)
def test_mistakes_of_the_command(attar, arguments, message):
    status, _, err = attar("suggest", *arguments)
    assert status == 2
    assert err.count("\n") == 1
    assert message in err


def test_students_of_a_run_take_its_images(attar, tmp_path):
    net = library.create_model("resnet110", 10, 1, 8)
    facts = {"classes": [str(n) for n in range(10)], "image_shape": [1, 8, 8], "mean": [0.5], "std": [0.5]} | {
        "data": "digits"
    }
    (tmp_path / "run").mkdir()
    save(net, tmp_path / "run" / "student.safetensors", **facts)
    shown = library.suggest(str(tmp_path / "run"), among=["resnet8"], clock=lambda *_: Latency(1.0, 0.0))
    assert (shown.classes, shown.image_shape) == (10, (1, 8, 8))
    assert next_command(shown).startswith(f"attar distill teacher={tmp_path / 'run'} student=resnet8 ")
    status, out, _ = attar("suggest", "run", "--among", "resnet8", "--latency", "10s")
    assert status == 0
    assert "attar distill teacher=run student=resnet8 data=folder" in out
    recipe = read_recipe(student="resnet110", data={"name": "manifest", "root": "my images/table.csv"})
    (tmp_path / "run" / "recipe.yaml").write_text(to_yaml(recipe))
    for teacher in ("run", "run/student.safetensors"):
        shown = library.suggest(teacher, among=["resnet8"], clock=lambda *_: Latency(1.0, 0.0))
        assert next_command(shown).endswith("=resnet8 data=manifest data.root='my images/table.csv' data.image_size=8")


def test_a_notebook_shows_the_table():
    assert str(inspect.signature(attar.suggest)) == str(inspect.signature(library.suggest))
    shown = attar.suggest("resnet56", among=RESNETS, clock=lambda net, *_: Latency(parameters(net) / 1e5, 0.01))
    page = shown._repr_html_()
    assert isinstance(shown, attar.Suggestion)
    assert "Students of resnet56" in page
    assert "737 kB" in page
    assert "no promise of accuracy" in page
