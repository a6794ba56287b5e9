"""`attar search` finds a student under a budget by training candidates."""

from __future__ import annotations

import typer

from attar.cli.arguments import Plugin, RecipeArguments, split_arguments
from attar.cli.entry import app, console, loading
from attar.cli.train import keys_of

# What `attar search` takes besides the keys of a recipe.
GOALS = ("within", "candidates", "among", "latency", "size", "macs", "params", "memory")


@app.command(short_help="Find the best student under a budget by training.")
def search(arguments: RecipeArguments = None, plugins: Plugin = None) -> None:
    """Find the best student under a budget by training: candidates for a while, the better half longer, one in full.

    Besides the keys of a recipe (all but student): latency=5ms size=1MB macs=300M params=1M memory=10MB (the budget),
    within=2 (points below the teacher), candidates=8 (how many to try) and among="timm/mobile*,resnet*" (their names;
    among=nets:small is a function of a module). Settings that are left out are chosen, as attar distill does.

    attar search teacher=runs/teacher data=photos/ latency=5ms size=1MB within=2 epochs=12
    """
    with loading():
        from attar.experiments.student_halving import search_students, split_goal
        from attar.recipe import read_recipe

    file, overrides = split_arguments(arguments)
    goal, _ = split_goal({key: value for key, _, value in (one.partition("=") for one in overrides) if key in GOALS})
    kept = [one for one in overrides if one.partition("=")[0] not in GOALS]
    keys = keys_of(file, kept)
    found = search_students(read_recipe(file, kept), goal, console, keys=keys)
    for table in (found.table(), found.winner.score_table()):
        console.print(table)
    for line in (found.sentence(), *found.winner.hints()):
        console.print(line, markup=False)
    console.print(f"Report: {found.report}\nStudent: {found.winner.student}", markup=False, soft_wrap=True)
    if not found.holds:
        raise typer.Exit(1)
