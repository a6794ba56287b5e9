"""Commands that messages print can be copied into a shell, whatever the folder is called."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from attar.cli import entry
from attar.deploy import find_trained
from attar.errors import AttarError, Stopped
from attar.experiments.inputs_record import check_inputs, write_inputs
from attar.experiments.launch import free_folder
from attar.recipe import Recipe

NAME = "Robe d'été & more"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / NAME
    place.mkdir()
    (place / "recipe.yaml").write_text("")
    return place


def command(message: str, verb: str) -> list[str]:
    """The words that a shell makes of the command between backticks, or of the rest of the line."""
    start = message.index(f"attar {verb}")
    return shlex.split(message[start:].partition("`")[0])


def test_an_unfinished_run(folder: Path) -> None:
    with pytest.raises(AttarError) as found:
        find_trained(folder)
    assert command(str(found.value), "resume") == ["attar", "resume", str(folder)]


def test_a_folder_that_is_taken(folder: Path) -> None:
    with pytest.raises(AttarError) as found:
        free_folder(Recipe(out=str(folder)))
    assert command(str(found.value), "resume") == ["attar", "resume", str(folder)]


def test_inputs_that_changed(folder: Path) -> None:
    write_inputs(folder, {"test images": "a"})
    with pytest.raises(AttarError) as found:
        check_inputs(folder, {"test images": "b"})
    assert command(str(found.value), "resume") == ["attar", "resume", str(folder), "--accept-changes"]


def test_a_run_that_was_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(**_: object) -> None:
        raise Stopped(folder)

    monkeypatch.setattr(entry, "app", stopped)
    with pytest.raises(SystemExit):
        entry.main()
    assert command(capsys.readouterr().out, "resume") == ["attar", "resume", str(folder)]
