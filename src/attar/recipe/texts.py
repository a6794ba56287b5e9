"""YAML files and `key=value` overrides as trees of values; what holds text is kept as it was written."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf

from attar.errors import AttarError
from attar.recipe.schema import NAMED, DataRecipe, Recipe
from attar.yaml_text import MOST_BYTES, Loader, check_yaml

# OmegaConf's messages on a value of another type.
WRONG_TYPE = re.compile(
    r"(?:Incompatible value|Value) (?P<value>'.*?')"
    r"(?: of type '\w+' could not be converted to| for field of type| is not a valid) "
    r"'?(?P<kind>\w+)'?"
)
NUMBERS = {
    "integer": "a whole number", "int": "a whole number", "float": "a number", "bool": "true or false",
    "boolean": "true or false",
}  # fmt: skip
# What is quoted of a library's message.
LONGEST_MESSAGE = 300


def load_yaml(path: Path, kind: str) -> dict[str, Any]:
    """A YAML mapping from a file.

    Args:
        path: the file.
        kind: what it should be, for the messages.

    Raises:
        AttarError: it is missing, is no YAML, or holds something else.
    """
    if not path.is_file():
        remedy = "`attar bench --help` shows one" if kind == "suite" else "`attar distill --help` lists a recipe's keys"
        raise AttarError(f"{kind} {str(path)!r} is no file; {remedy}")
    if path.stat().st_size > MOST_BYTES:
        raise AttarError(f"{kind} {str(path)!r} has more than {MOST_BYTES} bytes; is it the right file?")
    try:
        text = path.read_text(encoding="utf-8")
        check_yaml(text, f"{kind} {str(path)!r}")
        loaded, texts = OmegaConf.load(io.StringIO(text)), yaml.load(text, TextLoader)
    except AttarError:
        raise
    except Exception as error:  # every parser error means the same to the user
        raise AttarError(f"{kind} {str(path)!r} is no YAML: {one_line(error)}") from None
    if not isinstance(loaded, DictConfig):
        raise AttarError(f"{kind} {str(path)!r} must be a mapping of keys to values")
    return _with_texts(OmegaConf.to_container(loaded), texts)


class TextLoader(Loader):
    """YAML whose values are all text, as written, but for null."""


TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _with_texts(tree: Any, texts: Any, section: str = "", key: str = "") -> Any:
    """A tree read as YAML in which keys that hold text have it as it was written: 2024_05, no, 010.

    Args:
        tree: from YAML.
        texts: the same, all values as text.
        section: the key around it; none at the top, in a suite's recipe and in the sections of its lists.
        key: its own key.
    """
    if isinstance(tree, dict) and isinstance(texts, dict) and len(tree) == len(texts):
        outer = "" if key == "recipe" and not section else key
        pairs = zip(tree.items(), texts.values(), strict=True)
        return {name: _with_texts(value, text, outer, str(name)) for (name, value), text in pairs}
    if isinstance(tree, list) and isinstance(texts, list) and len(tree) == len(texts):
        return [_with_texts(value, text) for value, text in zip(tree, texts, strict=True)]
    return texts if isinstance(texts, str) and holds_text(f"{section}.{key}" if section else key) else tree


@cache
def _text_keys() -> frozenset[str]:
    """The keys of the recipe that hold text, with the sections that may be written as a bare name."""

    def keys(cls: type, prefix: str) -> list[str]:
        found = []
        for name, kind in get_type_hints(cls).items():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                found += keys(kind, f"{prefix}{name}.")
            elif kind in (str, str | None):
                found.append(f"{prefix}{name}")
        return found

    return frozenset([*NAMED, *keys(Recipe, "")])


def holds_text(key: str) -> bool:
    return key in _text_keys()


def listed(names: str) -> list[str]:
    """The names or paths in a text with commas between them; a comma in a path that exists does not part it.

    >>> listed("resnet56, resnet20")
    ['resnet56', 'resnet20']
    """
    parts, found = names.split(","), []
    while parts:
        whole = (n for n in range(len(parts), 1, -1) if Path(",".join(parts[:n]).strip()).expanduser().exists())
        count = next(whole, 1)
        found.append(",".join(parts[:count]).strip())
        parts = parts[count:]
    return found


def titled(name: str) -> str:
    """What a network or data set is called in tables and pages; one that was given as an object has its class's name.

    >>> titled("given:ResNet"), titled("timm/resnet10t,given:ViT")
    ('ResNet', 'timm/resnet10t, ViT')
    """
    return ", ".join(one.removeprefix("given:") for one in name.split(","))


# Names of forms that data have, not of data: these are called after their folder or file.
FORMS = ("folder", "hf", "manifest", "label_table", "webdataset", "text", "sentences", "cells", "graph", "channels")


def data_title(data: DataRecipe) -> str:
    """What the data are called: a folder or file of your own, however it was given, by the last part of its path.

    >>> data_title(DataRecipe("folder", root="data/photos")), data_title(DataRecipe("data/photos/"))
    ('photos', 'photos')
    >>> data_title(DataRecipe("sentences", root="data/sst2"))
    'sst2'
    >>> data_title(DataRecipe("cifar100", root="data")), data_title(DataRecipe("given:Photos"))
    ('cifar100', 'Photos')
    """
    return Path(data.root if data.name in FORMS and data.root else titled(data.name)).name


def flat_name(*names: str) -> str:
    """One folder's name, without a slash or a colon, of the networks, data sets and methods that it is named after.

    >>> flat_name("kd", "timm/resnet50,given:ResNet", "nets:small", "", "photos")
    'kd-timm-resnet50-ResNet-nets.small-photos'
    """
    parts = [part for name in names for part in re.split(r"(?:, |/)+", titled(name)) if part]
    return "-".join(parts).replace(":", ".")


def at_home(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A layer whose texts have the home folder for a leading ~, which not every shell puts there."""
    home = os.path.expanduser("~")  # stays ~ where a user has no home
    return {
        key: at_home(value, f"{key}.")
        if isinstance(value, dict)
        else re.sub(r"(^|,)~(?=/|$)", lambda match: match[1] + home, value)
        if isinstance(value, str) and holds_text(f"{prefix}{key}")
        else value
        for key, value in tree.items()
    }


def parse(override: str) -> dict[str, Any]:
    """One "key=value" as a tree, its value read as YAML; a key that holds text takes it as it is.

    >>> parse("data.root=2024_05"), parse("seed=2024_05")
    ({'data': {'root': '2024_05'}}, {'seed': 202405})
    >>> parse('method.weights."labels->student.logits"=until(30)')
    {'method': {'weights': {'labels->student.logits': 'until(30)'}}}
    """
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise AttarError(f"expected key=value, got {override!r}; for example epochs=10")
    if _is_plain_text(key, value):
        return _nested(key.split("."), value)
    try:
        check_yaml(value, f"{key[:60]}=")
        if '"' in key or "'" in key:
            # A part in quotation marks is one key, whatever dots it has.
            parts = ["".join(found) for found in re.findall(r""""([^"]+)"|'([^']+)'|([^."']+)""", key)]
            return _nested(parts, OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))["value"])  # type: ignore[index, call-overload]
        tree: Any = OmegaConf.to_container(OmegaConf.from_dotlist([override]))
    except AttarError:
        raise
    except Exception as error:
        raise AttarError(f"{override!r} cannot be read: {one_line(error)}") from None
    return tree


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    """A value under nested keys."""
    held: dict[str, Any] = {keys[-1]: value}
    for key in reversed(keys[:-1]):
        held = {key: held}
    return held


def _is_plain_text(key: str, value: str) -> bool:
    """Whether a value is text: not in quotation marks, not nothing, not a YAML section where a bare name may stand."""
    section = key in NAMED and value.lstrip()[:1] in ("{", "[")
    return holds_text(key) and value not in ("", "null") and value[0] not in "'\"" and not section


def one_line(error: Exception) -> str:
    """OmegaConf's message without its trailer, the key first; a parser's with the line."""
    if problem := getattr(error, "problem", None):
        context = f"{error.context}, " if problem.startswith("but ") else ""  # type: ignore[attr-defined]
        mark = getattr(error, "problem_mark", None)
        return f"{context}{problem} (line {mark.line + 1})" if mark else f"{context}{problem}"
    message = str(error)[:LONGEST_MESSAGE].replace("ListConfig", "list").replace("DictConfig", "section")
    first, *rest = message.splitlines() or ["unreadable"]
    if match := WRONG_TYPE.match(first):
        value = "nothing" if match["value"] == "'None'" else match["value"]
        first = f"expected {NUMBERS.get(match['kind'].lower(), match['kind'])}, got {value}"
    elif first.startswith("Invalid value assigned") and " is not a list" in first:
        first = "expected a list, such as [0.5,0.75]"
    full = next((line.split(":", 1)[1].strip() for line in rest if line.strip().startswith("full_key")), "")
    return f"{full}: {first}" if full else first
