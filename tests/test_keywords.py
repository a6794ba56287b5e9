"""The keyword arguments of attar.distill and its siblings: every key of the recipe, typed, in editors and help()."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
from typing import get_type_hints

import pytest

import attar
from attar.recipe.keywords import RecipeKeys, SearchKeys


def test_every_key_of_the_recipe_is_one() -> None:
    fields = {one.name: one.type for one in dataclasses.fields(attar.Recipe)}
    assert list(RecipeKeys.__annotations__) == list(fields)
    plain = {"int", "float", "str", "int | None", "str | None", "bool | None"}
    for key, hint in RecipeKeys.__annotations__.items():
        if fields[key] in plain:
            assert hint.__forward_arg__ == fields[key], key


@pytest.mark.parametrize(
    ("function", "keys"), [("distill", RecipeKeys), ("train_model", RecipeKeys), ("search", SearchKeys)]
)
def test_help_and_completion_show_them_with_the_recipes_defaults(function: str, keys: type) -> None:
    parameters = inspect.signature(getattr(attar, function)).parameters
    assert {*get_type_hints(keys)} < {*parameters}
    assert not any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    assert parameters["epochs"].default == attar.Recipe().epochs
    assert parameters["teacher"].default is None
    assert "epochs: int = 10" in pydoc.plain(pydoc.render_doc(getattr(attar, function)))


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(attar.AttarError, match="did you mean 'epochs'"):
        attar.distill(epoch=3)  # type: ignore[call-arg]
