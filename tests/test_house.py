"""The shape of the house: imports point downward, importing costs nothing, files stay small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import attar

SOURCE = Path(attar.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
# Each room with what it may import; the leaves everybody may.
LEAVES = {"errors", "batch", "ramps", "registry", "files", "decoding"}
ROOMS = {
    "knowledge": set(),
    "recipe": {"recipes"},
    "recipes": set(),
    "track": set(),
    "losses": {"knowledge"},
    "nets": {"knowledge"},
    "data": {"knowledge"},
    "measure": {"knowledge", "losses", "nets", "data"},
    "methods": {"knowledge", "losses", "nets", "data", "measure"},
    "deploy": {"knowledge", "losses", "nets", "data", "measure", "methods"},
}
ROOMS["report"] = {*ROOMS["deploy"], "deploy", "recipe", "recipes"}
ROOMS["train"] = {*ROOMS["report"], "report", "track"}
ROOMS["api"] = {*ROOMS["train"], "train"}
ROOMS["cli"] = {*ROOMS["api"], "api"}
ROOMS["__main__"] = {"cli"}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(file: Path) -> set[str]:
    """The rooms of attar that a file imports, functions' imports included."""
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            rooms |= {room_of(name.name) for name in node.names if name.name.split(".")[0] == "attar"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "attar":
            assert not node.level, f"{file}: relative import"
            named = [room_of(node.module)] if "." in node.module else [name.name for name in node.names]
            rooms |= set(named)
    return rooms


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_point_downward(file):
    room = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    allowed = {"errors"} if room in LEAVES else ROOMS.get(room, set()) | LEAVES
    above = imported(file) - {room} - allowed
    assert not above, f"{room} imports {above}, which stand above it"


def test_the_test_above_can_see_an_import():
    assert {"knowledge", "methods"} <= imported(SOURCE / "train" / "finite.py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_file_is_long(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 500


def test_the_framework_stays_under_300_lines():
    assert len((SOURCE / "knowledge.py").read_text().splitlines()) < 300


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_attar_does_not_import_torch():
    assert run("import attar, sys; print('torch' in sys.modules)") == "False"


def test_the_recipe_and_the_help_do_not_import_torch():
    assert run("import attar.recipe, attar.cli, sys; print('torch' in sys.modules)") == "False"


def test_promised_names_exist():
    assert {"distill", "evaluate", "resume", "train_model", "load", "create_model", "create_method"} <= set(
        attar.__all__
    )
    assert all(callable(getattr(attar, name)) for name in attar.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        _ = attar.distil
