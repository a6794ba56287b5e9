"""Build images and networks from a recipe's names, or take objects that were given in their place."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from attar.data import Splits, TensorSplits, divided, read_data
from attar.data.sources.text import check_tokenizer, check_tokenizer_of_weights
from attar.errors import AttarError, first_line
from attar.experiments.given_objects import GIVEN, Given
from attar.methods import method_info
from attar.models import as_staged, class_rows, create_model, model_info, observe, recorded_classes
from attar.models.copying import copied
from attar.models.libraries.create import is_untrained
from attar.models.libraries.imagenet_classes import imagenet_rows
from attar.models.libraries.names import FILES, outside
from attar.models.preprocessing import saved_input
from attar.models.surgery.headless import FeatureNetwork
from attar.models.surgery.layer_start import start_from_layers
from attar.plugins import names_function
from attar.profiling.cost import blank_images
from attar.recipe import ModelRecipe, Recipe, TeacherRecipe, listed
from attar.registry import check_types
from attar.tasks import Task, task_name, task_of, with_metrics

# The sets of a task.
Sets = Splits | TensorSplits


# What student.weights has in place of a file.
FROM_TEACHER = "teacher"
# Between the seeds of networks that share a name: more than between the seeds of a suite, whose teachers stay apart.
SEEDS_APART = 10_000


def task_title(recipe: Recipe) -> str:
    """What a recipe's task is called: the registered name, or that of the object.

    >>> task_title(Recipe())
    'classification'
    """
    named = recipe.task.name
    return named if named.startswith(GIVEN) else task_name(named, recipe.data.name)


@dataclass
class Held:
    """The samples in memory, for as long as they may be asked for; recipes with the same data may share them.

    Attributes:
        task: what they are for; it may keep what it found in them.
        whole: everything that was read, where other seeds or sizes will need it.
        divided: what was made of it, by seed and number of training samples.
    """

    task: Task
    whole: Sets | None = None
    divided: dict[tuple[int, int | None], Sets] = field(default_factory=dict)


@dataclass
class Parts:
    """Builds the sets and networks of one recipe, reading every set once.

    Attributes:
        recipe: the names.
        held: what was read already.
        given: objects in place of names.
        taught: the job's teachers; a student that starts from the teacher's layers copies the first one's weights.
    """

    recipe: Recipe
    held: Held
    given: Given = field(default_factory=Given)
    taught: list[nn.Module] = field(default_factory=list)

    def splits(self, seed: int, train_size: int | None = None) -> Sets:
        """The samples for one seed, optionally with another number of training samples than the recipe's.

        Of the seeds only the recipe's first and the last asked for stay in memory.
        """
        size, held = train_size or self.recipe.data.train_size, self.held.divided
        first, seed = (split_seed(self.recipe, one) for one in (self.recipe.seed, seed))
        if (seed, size) not in held:
            for other in [key for key in held if key[0] not in (first, seed)]:
                del held[other]
            whole = self.held.whole or read_splits(self.held.task, self.recipe, self.given.data)
            if self.recipe.seeds > 1 or self.recipe.teacher.train_size:
                self.held.whole = whole
            held[seed, size] = divided_splits(whole, self.recipe, seed, size)
        return held[seed, size]

    def student(self, seed: int) -> nn.Module:
        """The student as it starts, the same for one seed whoever trains it."""
        if self.given.student is not None:
            return checked(copied(self.given.student), "student", self.splits(seed))
        recipe = self.recipe.student
        if not self.starts_from_teacher:
            return build(recipe, self.splits(seed), seed)
        if not self.taught:
            raise AttarError("student.weights=teacher starts from a teacher's layers, and there is none; give teacher=")
        net = build(replace(recipe, weights=None), self.splits(seed), seed)
        start_from_layers(net, self.taught[0])
        return net

    @property
    def starts_from_teacher(self) -> bool:
        """Whether the student begins with the weights of some of the teacher's layers."""
        return self.recipe.student.weights == FROM_TEACHER

    def teachers(self) -> list[nn.Module]:
        """Every teacher, with its weights where it has some."""
        seed = self.recipe.seed
        if self.given.teachers:
            return [checked(copied(net), "teacher", self.splits(seed)) for net in self.given.teachers]
        teacher = self.recipe.teacher
        again = repeats(self.recipe)
        return [
            build(
                ModelRecipe(name, weights, teacher.options, teacher.classes),
                self.splits(seed),
                seed + again.get(number, 0),
                "teacher",
            )
            for number, (name, weights) in enumerate(teacher_parts(teacher))
        ]

    def untrained(self) -> list[tuple[int, str]]:
        """(number, name) of the teachers that come without weights and must be trained first."""
        return [] if self.given.teachers else untrained_teachers(self.recipe.teacher)


def teacher_parts(teacher: TeacherRecipe) -> list[tuple[str, str | None]]:
    """(name, weights) of each teacher; several are separated by commas."""
    names = [name for name in listed(teacher.name) if name]
    weights: list[str | None] = [None] * len(names)
    if teacher.weights:
        weights = [file or None for file in listed(teacher.weights)]
    if len(names) != len(weights):
        raise AttarError(f"teacher names {len(names)} networks but teacher.weights {len(weights)} files; give one each")
    return list(zip(names, weights, strict=True))


def untrained_teachers(teacher: TeacherRecipe) -> list[tuple[int, str]]:
    """(number, name) of the teachers that come without weights; exported files and functions bring theirs.

    >>> untrained_teachers(TeacherRecipe("resnet56,resnet44", weights="a.pth,"))
    [(1, 'resnet44')]
    """
    parts = enumerate(teacher_parts(teacher))
    return [
        (number, name)
        for number, (name, weights) in parts
        if not weights and not names_function(name) and (not name.startswith(FILES) or is_untrained(name))
    ]


def repeats(recipe: Recipe) -> dict[int, int]:
    """What is added to the seed of each teacher without weights, by its number.

    Networks of one name would else start as one network, the student's too; born-again networks each have a start of
    their own (arXiv:1805.04770).

    >>> three = TeacherRecipe("resnet20,resnet56,resnet20")
    >>> repeats(Recipe(teacher=three, student=ModelRecipe("resnet8")))
    {0: 0, 1: 0, 2: 10000}
    >>> repeats(Recipe(teacher=three, student=ModelRecipe("resnet20")))
    {0: 10000, 1: 0, 2: 20000}
    """
    student, teacher = recipe.student, recipe.teacher
    seen, found = Counter[str](), dict[int, int]()
    if not student.weights and student.options == teacher.options:
        seen[student.name] = 1
    for number, name in untrained_teachers(teacher):
        found[number] = seen[name] * SEEDS_APART
        seen[name] += 1
    return found


def held_for(recipe: Recipe, given: Given | None = None) -> Held:
    """Nothing read yet, for the task of a recipe or the one that was given as an object."""
    if given is None or given.task is None:
        return Held(task_of(recipe))
    return Held(with_metrics(given.task, recipe.metrics))


def read_splits(task: Task, recipe: Recipe, given: Any = None) -> Any:
    """All samples of a recipe, or of the object that stands in for their name."""
    if given is None:
        return task.load(recipe)
    if isinstance(given, TensorSplits):
        return given
    data = recipe.data
    options = {key: value for key, value in data.options.items() if key != "class_weights"}
    return read_data(given, data.root, augment=data.augment, unlabelled=data.unlabelled, **options)


def split_seed(recipe: Recipe, seed: int) -> int:
    """The seed that divides the samples of a run: the data's own, or that of the run."""
    return seed if recipe.data.split_seed is None else recipe.data.split_seed


def divided_splits(whole: Any, recipe: Recipe, seed: int, train_size: int | None = None) -> Any:
    """What the seed of a split makes of all samples."""
    data = recipe.data
    size = train_size or data.train_size
    return divided(whole, data.val_fraction, seed, size, data.options.get("class_weights"))


def build(recipe: ModelRecipe, splits: Sets, seed: int, role: Literal["student", "teacher"] = "student") -> nn.Module:
    """A network for these samples, initialised from the seed, with the recipe's weights.

    Weights of another number of classes are a student's start, whose classifier begins anew; a teacher must have
    these classes. A network with published weights sees the images as those weights do.
    """
    for option in recipe.options:
        if option in ("num_classes", "in_channels", "image_size", "weights", "head", "mean", "std"):
            raise AttarError(f"{option} of network {recipe.name!r} follows from the data; leave it out of its options")
    check_types(f"network {recipe.name!r}", model_info(recipe.name).build, recipe.options)
    if "tokenizer_digest" in (facts := splits.test.card):
        if recipe.name.startswith("hf/"):
            check_tokenizer(facts, Path(recipe.name.removeprefix("hf/")))
        if recipe.weights:
            check_tokenizer_of_weights(facts, Path(recipe.weights))
    options = dict(recipe.options)
    if role == "teacher" and not outside(recipe.name) and (seen := saved_input(recipe.weights)):
        options.setdefault("input_size", seen.size)  # a student may learn on images of another size
    with seeded(seed):
        return create_model(
            recipe.name,
            weights=recipe.weights,
            head="fresh" if role == "student" else "same",
            classes=rows_of(recipe, splits) or recorded_order(recipe, splits, role),
            **splits.network,
            **options,
        )


def rows_of(recipe: ModelRecipe, splits: Sets) -> list[int] | None:
    """The rows of the weights' classifier that the recipe asks for.

    Raises:
        AttarError: something that is no list of numbers, or without weights.
    """
    wanted = recipe.classes
    if wanted is None:
        return None
    if not recipe.weights and not (recipe.name or "").startswith("onnx/"):
        raise AttarError(f"classes={wanted} picks from weights, and {recipe.name} has none; give its weights")
    if wanted == "imagenet":
        return imagenet_rows(splits.test.classes)
    if isinstance(wanted, list) and all(type(row) is int for row in wanted):
        return wanted
    raise AttarError(f"classes={wanted}: expected imagenet, or a list of numbers such as [0,217,482]")


def recorded_order(recipe: ModelRecipe, splits: Sets, role: str) -> list[int] | None:
    """The rows of a classifier in the data's order, where its class names are recorded and in another order.

    Raises:
        AttarError: a teacher of other classes than the data's; a student starts from such weights all the same.
    """
    named = recipe.classes is None and splits.test.classes
    theirs = recorded_classes(recipe.name, recipe.weights) if named else None
    if theirs is None:
        return None
    source = recipe.weights or recipe.name
    try:
        rows = class_rows(theirs, splits.test.classes, str(source))
    except AttarError:
        if role == "teacher":
            raise
        return None
    if rows is not None:
        warnings.warn(
            f"{source} has the data's classes in another order: its classifier's rows are put in theirs", stacklevel=2
        )
    return rows


def checked(net: nn.Module, role: str, splits: Sets) -> nn.Module:
    """A network that was handed over, if it takes these samples and has these classes.

    A teacher of timm or torchvision comes back staged where its family is known, so that every method can use it.

    Raises:
        AttarError: it does not.
    """
    if role == "teacher":
        net = as_staged(net) or net
    net.eval()
    if splits.num_classes == 0:
        net = FeatureNetwork(net)
    try:
        with torch.no_grad():
            found = observe(net, blank_images(net, splits.test.example, 2)).logits
    except (RuntimeError, TypeError, IndexError, AssertionError) as error:
        reason = first_line(error)
        what = "images" if isinstance(splits, Splits) else "samples"
        raise AttarError(f"the {role} does not take {what} of {splits.image_shape}: {reason}") from None
    if splits.num_classes == 0 and found.ndim != 2:
        raise AttarError(f"the {role} puts out {tuple(found.shape)}, expected features (B, D); give it without a head")
    if splits.num_classes and splits.num_classes not in found.shape[1:]:
        raise AttarError(f"the {role} has {found.shape[-1]} classes, the data have {splits.num_classes}")
    return net


@contextmanager
def fitting(method: str, task: str) -> Iterator[None]:
    """What a method of the package trips over, shapes mostly, in one line; one's own keeps its traceback.

    Args:
        method: its name, or several joined by +.
        task: what is learnt.

    Raises:
        AttarError: the method does not fit the networks and the task.
    """
    try:
        yield
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        ours = all(method_info(name.strip()).cls.__module__.startswith("attar.") for name in method.split("+"))
        if isinstance(error, AttarError) or not ours:
            raise
        raise AttarError(
            f"method {method!r} does not run on these networks and task {task!r} ({first_line(error)}); "
            "docs/tasks/index.md lists those that do"
        ) from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialisation from a seed; the global generator is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
