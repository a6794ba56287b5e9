"""The documentation: every page is in the navigation, doctests pass, Python parses, links resolve."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import re
import sys
import types
from pathlib import Path

import pytest

import attar as package

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TEXTS = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*TEXTS, *sorted(DOCS.rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as code hosts and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": (\S+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text(), flags=re.M))
    pages = {str(page.relative_to(DOCS)) for kind in ("md", "ipynb") for page in DOCS.rglob(f"*.{kind}")}
    assert listed == pages | {"index.md", "changelog.md", "contributing.md"}


def test_every_public_name_is_in_the_reference() -> None:
    pages = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    rooms = dict(re.findall(r"^::: (\S+)\n((?:    .*\n)*)", pages, flags=re.M))
    for name in package.__all__:
        home = package._HOME[name]
        assert home in rooms, f"{name} of {home}"
        listed = re.search(r"members: \[(.*)\]", rooms[home])
        shown = listed[1].split(", ") if listed else importlib.import_module(home).__all__
        assert name in shown, f"{name} of {home}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_resolve(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https://)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        found = page.parent / target if target else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_lists_are_lists_on_the_site(page: Path) -> None:
    """Python-Markdown begins a list after an empty line alone, also where a paragraph of an item went before."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for block in re.split(r"\n\s*\n", text):
        first, *lines = block.strip("\n").split("\n")
        assert first.startswith(("- ", "1. ")) or not [line for line in lines if line.startswith(("- ", "1. "))], block


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_blocks_are_python(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S):
        ast.parse(block)


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text()], ids=lambda page: page.name)
def test_examples_print_what_they_show(page: Path) -> None:
    text = re.sub(r"^```.*$", "", page.read_text(), flags=re.M)
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples).failed == 0


@pytest.mark.usefixtures("forget")
def test_the_first_method_of_the_page_passes_the_checks_and_distils(attar, tmp_path: Path) -> None:
    """The page's file and its commands, in fewer steps."""
    (block, *_) = re.findall(r"^```python\n(.*?)^```", (DOCS / "writing-a-method.md").read_text(), flags=re.M | re.S)
    (tmp_path / "hint.py").write_text(block)
    status, printed, errors = attar("methods", "hint", "--import", "hint.py", "--svg", "hint.svg")
    assert status == 0, errors
    assert "teacher -->" in printed
    assert "deploys" in package.check_method("hint")
    short = ["seeds=1", "epochs=1", "teacher.epochs=1", "teacher.train_size=100", "alone=skip", "precision=float32"]
    status, _, errors = attar("distill", "method=hint", *short, "compile=false", "jobs=1", "--import", "hint.py")
    assert status == 0, errors
    assert (tmp_path / "runs/hint-resnet8x4-resnet8-digits/student.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As plain Python; the site's build runs it in Jupyter, too."""
    shown = types.ModuleType("IPython.display")
    shown.SVG = str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    names: dict[str, object] = {}
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "the site's build makes the outputs"
            exec(compile("".join(cell["source"]), notebook.name, "exec"), names)
