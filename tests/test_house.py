"""The shape of the house: imports point downward, and importing costs nothing."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import attar
from rooms import LEAVES, ROOMS, mermaid

SOURCE = Path(attar.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """The modules of attar that a file imports, functions' imports included, without the leading "attar."."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names if name.name.split(".")[0] == "attar"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "attar":
            assert not node.level, f"{file}: relative import"
            inner = [f"{node.module}.{name.name}" for name in node.names]
            modules |= {one if is_module(one) else node.module for one in inner}
    return {name.removeprefix("attar.") for name in modules if name != "attar"}


def is_module(name: str) -> bool:
    place = SOURCE.parent / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").is_file()


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_point_downward(file):
    room = module_of(file).partition(".")[0]
    if room == "__init__":
        return
    allowed = {*ROOMS.get(room, ()), *LEAVES} if room not in LEAVES else set(LEAVES)
    above = {name.partition(".")[0] for name in imported(file)} - {room} - allowed
    assert not above, f"{room} imports {above}, which stand above it"


def test_every_room_is_in_the_table():
    rooms = {module_of(file).partition(".")[0] for file in FILES} - {"__init__"}
    assert rooms == {*ROOMS, *LEAVES}


def test_no_file_is_hidden_by_a_folder_of_its_name():
    assert not [file for file in FILES if file.with_suffix("").is_dir()]  # Python imports the folder alone


def test_rooms_are_in_layers():
    assert list(graphlib.TopologicalSorter(ROOMS).static_order())  # raises where rooms form a circle


def test_only_what_stands_above_a_job_imports_reports_and_deployment():
    for room in ("report", "deploy"):
        above = {other for other, rooms in ROOMS.items() if room in rooms}
        assert above <= {"report", "experiments", "api", "cli"}


def test_no_two_modules_import_each_other():
    modules = {module_of(file): imported(file) for file in FILES}
    # A package's own file gathers its modules; it is no part of a circle between them.
    packages = {module_of(file) for file in FILES if file.name == "__init__.py"}
    graph = {name: needs - packages for name, needs in modules.items() if name not in packages}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_the_tests_above_can_see_an_import():
    assert {"knowledge", "methods"} <= imported(SOURCE / "safety" / "nonfinite.py")


def test_the_readme_draws_the_table():
    assert mermaid() in Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_attar_does_not_import_torch():
    assert run("import attar, sys; print('torch' in sys.modules)") == "False"


def test_the_recipe_and_the_help_do_not_import_torch():
    assert run("import attar.recipe, attar.cli, sys; print('torch' in sys.modules)") == "False"


def test_a_run_imports_nothing_slow_that_it_may_not_need():
    slow = ["torch._dynamo", "scipy", "sklearn", "pandas", "PIL", "torchvision", "timm", "transformers"]
    code = f"import attar.experiments.launch, attar.api, sys; print([name for name in {slow} if name in sys.modules])"
    assert run(code) == "[]"


def test_promised_names_exist():
    assert {"distill", "evaluate", "resume", "train_model", "load", "create_model", "create_method"} <= set(
        attar.__all__
    )
    assert all(callable(getattr(attar, name)) for name in attar.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        _ = attar.distil
