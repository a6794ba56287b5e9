"""Which networks could learn from a teacher under a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from attar.errors import AttarError
from attar.models.libraries.names import library_of, outside
from attar.profiling.budget import Budget, read_budget
from attar.profiling.candidates import candidate_names
from attar.profiling.cost import threads
from attar.profiling.student_search import Clock, Measured, Progress, Search, Shape, on_the_clock
from attar.sizes import height_width

ZOO_SIDE, PHOTO_SIDE = 32, 224


@dataclass(frozen=True)
class Suggestion:
    """What `suggest` found.

    Attributes:
        teacher: what the teacher costs.
        students: inside the budget, those with more parameters first.
        nearest: where there is no student, the networks that miss the budget by the least.
        budget: what was asked for.
        image_shape: (C, H, W) of what a student sees.
        teacher_size: side of what the teacher sees.
        classes: logits.
        batch: images in one pass.
        threads: that the CPU's operators ran on.
        considered: how many names there were.
        timed: how many networks were built and timed.
        left_out: for each reason, how many names were not students for it.
    """

    teacher: Measured
    students: tuple[Measured, ...]
    nearest: tuple[Measured, ...]
    budget: Budget
    image_shape: Shape
    teacher_size: int
    classes: int
    batch: int
    threads: int
    considered: int
    timed: int
    left_out: dict[str, int]


def suggest(
    teacher: str | nn.Module,
    *,
    latency: str | None = None,
    size: str | None = None,
    macs: str | float | None = None,
    params: str | float | None = None,
    memory: str | None = None,
    image_size: int | None = None,
    teacher_size: int | None = None,
    classes: int = 100,
    channels: int = 3,
    batch: int = 1,
    threads: int = 1,
    top: int = 10,
    among: Sequence[str] = (),
    progress: Progress | None = None,
    clock: Clock = on_the_clock,
) -> Suggestion:
    """Networks that are smaller than a teacher and fit a budget, measured here; those with more parameters first.

    The order is one of capacity and promises no accuracy. A student has fewer parameters and multiply-accumulates
    than the teacher and is not slower; of one family three are named at most.

    Args:
        teacher: a name that `create_model` takes, or a network that takes (N, channels, teacher_size, teacher_size).
        latency: the most that the median pass may take, "5ms" or "0.005s".
        size: of the weights as safetensors, "10MB" or "10MiB".
        macs: of one image, "300M".
        params: "5M".
        memory: of the images and activations of one pass, "10MB".
        image_size: side of the images; None: 32 for a teacher of the zoo, else what the teacher's published weights
            were trained on, else 224.
        teacher_size: side that the teacher brings them to first; None: image_size.
        classes: how many logits.
        channels: of the images.
        batch: images in one pass.
        threads: that the CPU's operators run on.
        top: how many students to find.
        among: shell patterns of names ("timm/mobilenet*") in place of the rules of `candidate_names`.
        progress: called with what is being looked at, how many are done, and of how many.
        clock: what times a network.

    Raises:
        AttarError: an unknown teacher, a budget or number that is none, or no library for such images.

    >>> from attar.profiling import Latency
    >>> def by_size(net, shape, batch, most):  # the default clock measures each network
    ...     return Latency(sum(parameter.numel() for parameter in net.parameters()), 0.0)
    >>> found = suggest("resnet14", params="100k", among=["resnet8*"], top=1, clock=by_size)
    >>> [(one.name, one.parameters) for one in found.students]
    [('resnet8', 83892)]
    """
    budget = read_budget(latency=latency, size=size, macs=macs, params=params, memory=memory)
    numbers = {
        "batch": batch,
        "threads": threads,
        "top": top,
        "classes": classes,
        "channels": channels,
        "image_size": image_size,
        "teacher_size": teacher_size,
    }
    for key, number in numbers.items():
        if number is not None and number < 1:
            raise AttarError(f"{key} is {number}; give 1 or more")
    side = side_of(teacher) if image_size is None else image_size
    seen = side if teacher_size is None else teacher_size
    search = Search(budget, (channels, side, side), (channels, seen, seen), classes, batch, top, progress, clock)
    with _threads(threads):
        search.measure_teacher(teacher)
        search.run(candidate_names(side, among))
        nearest = () if search.students else search.nearest()
    return Suggestion(
        teacher=search.teacher,
        students=tuple(search.students),
        nearest=nearest,
        budget=budget,
        image_shape=search.shape,
        teacher_size=seen,
        classes=classes,
        batch=batch,
        threads=threads,
        considered=search.considered,
        timed=search.timed,
        left_out=dict(search.left_out),
    )


# `suggest` has an argument of this name.
_threads = threads


def side_of(teacher: str | nn.Module) -> int:
    """The side of the images that a teacher is for."""
    if not isinstance(teacher, str):
        shape = getattr(teacher, "input_shape", None)
        if shape and shape[1] != shape[2]:
            raise AttarError(
                f"the teacher takes images of {shape[1]}x{shape[2]}; give image_size=, the side of a square"
            )
        return shape[-1] if shape else ZOO_SIDE
    if not outside(teacher):
        return ZOO_SIDE
    library = library_of(teacher)
    try:
        seen = library.expects(teacher.removeprefix(library.prefix))[0] if library else None
        return height_width(seen.size)[1] if seen else PHOTO_SIDE
    except (AttarError, ValueError, KeyError, AttributeError):  # no published weights, or no such name
        return PHOTO_SIDE
