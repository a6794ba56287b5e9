"""Where the trainings of a job lie in its folder, what they are called, and the recipe of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from attar.experiments.build import repeats, split_seed, untrained_teachers
from attar.recipe import MethodRecipe, ModelRecipe, Recipe, TeacherRecipe
from attar.train.schedules import for_epochs


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


def teacher_recipe(recipe: Recipe, number: int) -> Recipe:
    """The recipe that trains a teacher which comes without weights: with the labels alone, on the run's split.

    Args:
        recipe: of the run that learns from it.
        number: which of its teachers.
    """
    teacher, data = recipe.teacher, recipe.data
    epochs, again = teacher.epochs or recipe.epochs, repeats(recipe)[number]
    return replace(
        recipe,
        student=ModelRecipe(dict(untrained_teachers(teacher))[number], None, teacher.options),
        teacher=TeacherRecipe(),
        method=MethodRecipe("supervised"),
        alone="skip",
        export=[],
        epochs=epochs,
        optim=for_epochs(recipe.optim, epochs, recipe.epochs),
        data=replace(
            data,
            train_size=teacher.train_size or data.train_size,
            split_seed=split_seed(recipe, recipe.seed) if again else data.split_seed,
        ),
        seed=recipe.seed + again,
    )


def trainings_of(recipe: Recipe) -> list[tuple[int, bool]]:
    """(seed, alone) of every training of students."""
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    return [(seed, alone) for alone in ([False, True] if recipe.alone == "train" else [False]) for seed in seeds]
