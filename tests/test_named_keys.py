"""Keys that messages tell the user to give: each is a key of the recipe, as it has to be written there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import attar
from attar.data.loading.load import COMMON
from attar.data.registry import DATASETS
from attar.methods import list_methods, method_info
from attar.models.registry import MODELS
from attar.recipe import NAMED, describe

SOURCES = Path(attar.__file__).parent
# Functions and classes that are called from Python alone: their messages name their own arguments.
PYTHON = (
    "losses",
    "methods/own_loop.py",
    "knowledge.py",
    "batch.py",
    "data/sources/wrap.py",
    "models/surgery",
    "profiling/suggestion.py",
)
# What networks of libraries and of the zoo take besides the options in their records.
OF_NETWORKS = ("aux_logits", "input_size", "depths", "widths", "weights", "classes")
PROPOSED = re.compile(
    r"\b(?:give|set|use|leave|with|as|or|to|and|by) (?:another |a smaller )?([a-z_]+(?:\.[a-z_0-9]+)*)="
)


@cache
def known():
    keys = {key for key, _, _ in describe()} | set(NAMED) | {"track", "out", "slurm.cluster"}
    keys |= {f"data.{name}" for info in map(DATASETS.__getitem__, DATASETS) for name in info.options}
    keys |= {f"data.{name}" for name in COMMON}
    tasks = [ast.parse(file.read_text(encoding="utf-8")) for file in (SOURCES / "tasks").glob("*.py")]
    calls = [node for tree in tasks for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if getattr(call.func, "id", "") == "check_options"]
    keys |= {f"data.{keyword.arg}" for call in named for keyword in call.keywords}
    keys |= {f"method.{option}" for name in list_methods() for option in method_info(name).defaults}
    options = {option for info in map(MODELS.__getitem__, MODELS) for option in info.options} | set(OF_NETWORKS)
    return keys | {f"{role}.options.{option}" for role in ("teacher", "student") for option in options}


@cache
def proposals():
    """(file, line, key) of every key=value that the text of a message proposes."""
    found = []
    for file in sorted(SOURCES.rglob("*.py")):
        name = file.relative_to(SOURCES).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
                text = "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
                text = node.value
            else:
                continue
            found += [(name, node.lineno, key) for key in PROPOSED.findall(text)]
    return found


def misspelt(key, keys):
    """Why a proposed key is none of the recipe's; nothing where it is one, or is no business of recipes."""
    if key in keys:
        return ""
    if "." in key:
        return "no such key"
    inner = [f"{section}.{key}" for section in ("data", "method", "optim", "teacher", "student.options")]
    return next((f"write {whole}" for whole in inner if whole in keys), "")


def test_keys_that_messages_propose_are_keys_of_the_recipe():
    keys = known()
    wrong = [
        f"{name}:{line}: {key}: {why}"
        for name, line, key in proposals()
        if not name.startswith(PYTHON) and (why := misspelt(key, keys))
    ]
    assert wrong == []


@pytest.mark.parametrize(("key", "why"), [("in_memory", "write data.in_memory"), ("data.rot", "no such key")])
def test_a_key_without_its_section_is_found(key, why):
    assert misspelt(key, known()) == why
    assert len(proposals()) > 60
