"""Chains of networks: each is distilled from the one before it, or from all before it, in a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from attar.errors import AttarError
from attar.experiments.build import SEEDS_APART, split_seed, teacher_parts
from attar.methods import method_info
from attar.models import model_info
from attar.recipe import ModelRecipe, Recipe, TeacherRecipe
from attar.report.summary import Summary

WEIGHTS = "student.safetensors"
# Starts the run of a link, or goes on with it, in the folder that its recipe names.
RunLink = Callable[[Recipe], Summary]
# Where the run of a link goes, by its recipe and number.
Place = Callable[[Recipe, int], Path]


def check_chain(recipe: Recipe) -> None:
    """Raise where a chain cannot run, before its first link is trained.

    Raises:
        AttarError: fewer than two networks, an unknown one, more weights than networks, several seeds, a student or
            teacher beside the chain, options of several teachers, a method that takes one teacher where each link
            learns from all, or a rule for several teachers where each has one.
    """
    chain, names = recipe.chain, recipe.method.name.split("+")
    if len(chain) < 2:
        raise AttarError(f"chain={chain}: give two networks or more, the first teacher first")
    for name in chain:
        model_info(name)
    if recipe.teacher.name or recipe.student.name:
        raise AttarError("chain names the teacher and every student; leave teacher= and student= out")
    if recipe.seeds > 1:
        raise AttarError(f"a chain runs one seed, got seeds={recipe.seeds}; start one for each seed=")
    if len(first_weights(recipe)) > len(chain):
        raise AttarError(f"teacher.weights names more files than the chain has networks ({len(chain)})")
    one = next((name for name in names if not method_info(name).takes_teacher), None)
    if one is not None:
        raise AttarError(f"chain: method {one!r} has no teacher; choose takd, dgkd, bornagain or another offline one")
    single = next((name for name in names if not method_info(name).takes_teachers), None)
    if recipe.chain_from == "all" and len(chain) > 2 and single is not None:
        raise AttarError(
            f"chain_from=all: method {single!r} takes one teacher; choose dgkd, or another that reads logits"
        )
    several = recipe.chain_from == "all" and len(chain) > 2
    if recipe.method.options.get("teachers") and not several:
        raise AttarError("method.teachers weighs several teachers, and each link has one; give chain_from=all")
    if recipe.teacher.options and several:
        raise AttarError("teacher.options are the first network's, and chain_from=all gives links several teachers")


def first_weights(recipe: Recipe) -> list[str | None]:
    """The weights of the chain's first networks, in its order."""
    if not recipe.teacher.weights:
        return []
    names = ",".join(["given"] * (recipe.teacher.weights.count(",") + 1))
    return [weights for _, weights in teacher_parts(replace(recipe.teacher, name=names))]


def links_in(folder: Path) -> Place:
    """The places of a chain's links in the folder of a chain."""
    return lambda link, number: folder / f"link{number}-{link.student.name}"


def chain_links(recipe: Recipe, place: Place) -> Iterator[Recipe]:
    """The recipes of a chain's links in their order, each in its folder and reading what those before it write.

    Args:
        recipe: with `chain`.
        place: where each link goes.

    Raises:
        AttarError: the last network has weights.
    """
    chain = recipe.chain
    weights: list[str | None] = [*first_weights(recipe), *[None] * len(chain)][: len(chain)]
    if weights[-1]:
        raise AttarError("teacher.weights has a file for the last network of the chain; nothing is left to train")
    for number in range(1, len(chain)):
        if weights[number]:
            continue
        teachers = range(number) if recipe.chain_from == "all" else range(number - 1, number)
        link = link_recipe(recipe, number, [(chain[one], weights[one]) for one in teachers])
        folder = place(link, number)
        yield replace(with_own_seed(link, number, chain), out=str(folder))
        for position, one in enumerate(teachers):
            trained = folder / ("teacher" if position == 0 else f"teacher{position + 1}") / WEIGHTS
            weights[one] = weights[one] or str(trained)
        weights[number] = str(folder / WEIGHTS)


def run_chain(recipe: Recipe, place: Place, run_link: RunLink, log: Callable[[str], object]) -> Summary:
    """Train every network of a chain that has no weights, each in a folder of its own.

    Args:
        recipe: with `chain`.
        place: where each link goes.
        run_link: runs a link; called again for a link that was stopped or is finished.
        log: told which link begins.

    Returns:
        The summary of the last link.
    """
    summaries = []
    for link in chain_links(recipe, place):
        log(f"link {link.teacher.name} to {link.student.name}")
        summaries.append(run_link(link))
    return summaries[-1]


def with_own_seed(link: Recipe, number: int, chain: Sequence[str]) -> Recipe:
    """A link whose network stands in the chain before has a seed of its own, with the images of the chain's seed.

    Generations of one network start from different weights (arXiv:1805.04770). The last one keeps the seed, by which
    it is compared with other runs. A link that trains its teacher, too, uses two seeds (`build.repeats`).
    """
    if number == len(chain) - 1 or chain[number] not in chain[:number]:
        return link
    data = replace(link.data, split_seed=split_seed(link, link.seed))
    return replace(link, seed=link.seed + 2 * number * SEEDS_APART, data=data)


def link_recipe(recipe: Recipe, number: int, teachers: Sequence[tuple[str, str | None]]) -> Recipe:
    """The recipe of one link: a plain run, whose student is compared with itself alone in the last one only."""
    last = number == len(recipe.chain) - 1
    files = [weights or "" for _, weights in teachers]
    teacher: TeacherRecipe = replace(
        recipe.teacher,
        name=",".join(name for name, _ in teachers),
        weights=",".join(files) if any(files) else None,
        options=recipe.teacher.options if number == 1 else {},
    )
    method = replace(recipe.method, options=dict(recipe.method.options))
    if len(teachers) == 1:
        method.options.pop("teachers", None)  # the first link of a chain whose later ones have several
    student = replace(recipe.student, name=recipe.chain[number]) if last else ModelRecipe(recipe.chain[number])
    return replace(
        recipe,
        chain=[],
        teacher=teacher,
        student=student,
        method=method,
        alone=recipe.alone if last else "skip",
        export=recipe.export if last else [],
        out=None,
    )
