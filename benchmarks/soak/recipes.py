"""Random recipes and hostile YAML: each is a recipe or an error of one line; anything else stops the soak."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from attar.errors import AttarError
from attar.recipe import describe, read_recipe

# For each trial.
RECIPES = 3000
KNOWN = ["1", "-1", "0.5", "nan", "1e999", "true", "null", "[]", "{}", "[1,a]", "{a:1}", "${x}", "${epochs}", "???"]
TAGS = ["!!python/object/apply:os.system [x]", "!!binary x", "!x y", "&a [*a]", "*a", "? x", "- x", '"']
LARGE = ["9" * 400, "[" * 5000, "a" * 5000]


def rows(trials: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """One row: how many were taken and refused."""
    draw, taken, file = random.Random(seed), 0, scratch / "recipe.yaml"
    keys = [key for key, _, _ in describe()]
    count = trials * RECIPES
    for number in range(count):
        texts = [f"{name(draw, keys)}{'=' if number % 2 else ': '}{value(draw)}" for _ in range(draw.randint(1, 3))]
        taken += accepted(texts, None if number % 2 else file)
    return [{"random recipes": count, "taken": taken, "refused in one line": count - taken, "passed": True}]


def accepted(texts: list[str], file: Path | None) -> bool:
    """Whether overrides, or lines of a file, are a recipe."""
    try:
        if file:
            file.write_text("\n".join(texts), encoding="utf-8")
        read_recipe(file, overrides=[] if file else texts)
    except AttarError as error:
        if "\n" in str(error) or not str(error).strip():
            raise RuntimeError(f"{texts!r}: not one line: {error}") from error
        return False
    except Exception as error:
        raise RuntimeError(f"{texts!r}: {type(error).__name__}: {error}") from error
    return True


def name(draw: random.Random, keys: list[str]) -> str:
    """A key, a key with a letter lost, or noise."""
    key = draw.choice([*keys, "method", "data", "student.options.x", "method.a.b"])
    return draw.choice([key, key, key[:-1], "".join(draw.choices("ab.=[]{}:$!& \t", k=draw.randint(0, 6)))])


def value(draw: random.Random) -> str:
    """A value of some type, tags and references of YAML, or noise."""
    ranges = [(32, 126), (0, 31), (160, 0x2FFF)]
    noise = "".join(chr(draw.randint(*draw.choice(ranges))) for _ in range(6))
    number = str(draw.randint(-(2**70), 2**70))
    return draw.choice([noise, number, *(draw.choice(values) for values in (KNOWN, TAGS, LARGE))])
