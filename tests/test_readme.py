"""The README tells the truth: its methods, its links, its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

import generated
from attar.cli import app
from attar.cli.search import GOALS
from attar.recipe import read_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_table_of_methods_is_the_registry() -> None:
    assert generated.families() in README
    assert generated.methods() in generated.METHODS.read_text(encoding="utf-8")


def test_short_methods_are_as_short_as_the_readme_has_them() -> None:
    """Whole files: imports, documentation and empty lines count."""
    named = re.findall(r"\[(\w+)\]\(src/attar/methods/\1\.py\)\s\((\d+) lines\)", README)
    counted = {name: len((ROOT / f"src/attar/methods/{name}.py").read_text().splitlines()) for name, _ in named}
    assert {name: int(lines) for name, lines in named} == counted
    assert len(named) == 5
    assert max(counted.values()) < 40
    example = re.search(r"\(examples/my_method\.py\), (\d+) lines", README)
    assert example
    assert int(example[1]) == len((ROOT / "examples/my_method.py").read_text().splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_are_named_exist(page: Path) -> None:
    for file, name in re.findall(r"(tests/[\w/]+\.py)(?:::(test_\w+))?", page.read_text()):
        assert (ROOT / file).is_file(), file
        assert f"def {name}(" in (ROOT / file).read_text() or not name, f"{file}::{name}"


def commands(page: Path) -> list[str]:
    """What follows `attar` in the commands of a page, each in one line."""
    return re.findall(r"^\s*(?:\$ )?attar (.*)$", page.read_text().replace("\\\n", " "), flags=re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_real(page: Path) -> None:
    """Every attar command in a page has a known verb, its options are read, and its keys fit the recipe's schema."""
    for line in commands(page):
        verb, *words = shlex.split(line, comments=True)
        assert verb in COMMANDS, line
        while "--import" in words:  # files of the reader's own
            del words[words.index("--import") : words.index("--import") + 2]
        COMMANDS[verb].make_context(verb, list(words))
        if verb in ("distill", "train", "search"):
            keys = [word for word in words if "=" in word and word.partition("=")[0] not in GOALS]
            read_recipe(overrides=[key for key in keys if "=nets:" not in key])  # a module of the reader's own


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_mean_the_same_in_every_shell(page: Path) -> None:
    """zsh, the shell of a Mac, refuses an unquoted bracket that matches no file."""
    for line in commands(page):
        plain = re.sub(r"'[^']*'|\"[^\"]*\"", "", line.partition("  #")[0])
        assert not re.search(r"[][{}()<>*?&;|`$]", plain), line
