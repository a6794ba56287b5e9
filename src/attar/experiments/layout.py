"""Where the trainings of a job lie in its folder, what they are called, and the recipe of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from attar.recipe import MethodRecipe, Recipe, TeacherRecipe


def seed_folder(recipe: Recipe, folder: Path, seed: int) -> Path:
    """Where one seed's student lies: in the job's own folder where there is only one."""
    return folder if recipe.seeds == 1 else folder / f"seed{seed}"


def training_place(recipe: Recipe, folder: Path, seed: int, alone: bool = False) -> tuple[str, Path]:
    """The title of one training, and its folder."""
    title = "alone" if alone else recipe.method.name
    student = seed_folder(recipe, folder, seed)
    return title + (f" seed {seed}" if recipe.seeds > 1 else ""), student / "alone" if alone else student


def training_recipe(recipe: Recipe, seed: int, alone: bool = False) -> Recipe:
    """The recipe of one training: of the student alone, supervised and without a teacher."""
    recipe = replace(recipe, seed=seed)
    return replace(recipe, method=MethodRecipe("supervised"), teacher=TeacherRecipe()) if alone else recipe


def trainings_of(recipe: Recipe) -> list[tuple[int, bool]]:
    """(seed, alone) of every training of students."""
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    return [(seed, alone) for alone in ([False, True] if recipe.alone == "train" else [False]) for seed in seeds]
