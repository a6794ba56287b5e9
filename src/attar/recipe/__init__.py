"""The recipe: everything a run depends on, as dataclasses whose attribute docstrings are the help.

YAML files, `key=value` overrides and keyword arguments all fill the same schema, so a misspelt key, a wrong type or
an unknown name is found before anything is written.
"""

from attar.recipe.layers import layered, normalise, optimiser_defaults, with_found_rate
from attar.recipe.read import given_keys, read_recipe, to_yaml
from attar.recipe.schema import (
    NAMED,
    DataRecipe,
    MethodRecipe,
    ModelRecipe,
    OptimRecipe,
    Recipe,
    TaskRecipe,
    TeacherRecipe,
    attribute_docs,
    describe,
)
from attar.recipe.texts import data_title, flat_name, listed, load_yaml, parse, titled

__all__ = [
    "NAMED",
    "DataRecipe",
    "MethodRecipe",
    "ModelRecipe",
    "OptimRecipe",
    "Recipe",
    "TaskRecipe",
    "TeacherRecipe",
    "attribute_docs",
    "data_title",
    "describe",
    "flat_name",
    "given_keys",
    "layered",
    "listed",
    "load_yaml",
    "normalise",
    "optimiser_defaults",
    "parse",
    "read_recipe",
    "titled",
    "to_yaml",
    "with_found_rate",
]
