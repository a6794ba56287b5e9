"""Which networks a method runs on, in words: from what it needs, for lists and for the errors about other networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Literal, NamedTuple

from attar.errors import PairError

Needs = Literal["logits", "pooled", "stages", "classifier", "layers", "family", "branches", "convolutions"]


class Pairs(NamedTuple):
    """Networks with something in common.

    Attributes:
        what: they have.
        teacher: the name of one.
        student: and of a smaller one.
        options: of the student.
    """

    what: str
    teacher: str = "resnet56"
    student: str = "resnet20"
    options: Mapping[str, object] = MappingProxyType({})


LINEAR = "networks that end in a linear layer"
# What networks need to have, what asks for most first: a method of several needs runs on those of the first.
PAIRS: dict[Needs, Pairs] = {
    "layers": Pairs(
        "transformers of one width with a class token whose attention is known, no more layers in the student",
        "timm/deit_tiny_patch16_224",
        "timm/deit_tiny_patch16_224",
        {"depth": 6},
    ),
    "family": Pairs("two networks of one family with stages of the same shapes"),
    "branches": Pairs("networks of attar.list_models()"),
    "convolutions": Pairs("networks with padded 3x3 or 5x5 convolutions"),
    "stages": Pairs("networks of attar.list_models() and those that attar.models.as_staged knows"),
    "classifier": Pairs(LINEAR),
    "pooled": Pairs(LINEAR),
    "logits": Pairs("networks of the same classes"),
}


def demand(needs: Sequence[Needs]) -> int:
    """How much needs ask for, to compare with others.

    >>> demand(("pooled",)) < demand(("logits", "stages")) < demand(("layers",))
    True
    """
    return -min(list(PAIRS).index(need) for need in needs)


def pairs_of(needs: Sequence[Needs]) -> Pairs:
    """The networks that have all of what a method needs.

    >>> pairs_of(("logits", "stages")).what
    'networks of attar.list_models() and those that attar.models.as_staged knows'
    """
    return list(PAIRS.values())[-demand(needs)]


def runs_on(needs: Sequence[Needs], *, takes_teacher: bool = True, options: Mapping[str, object] | None = None) -> str:
    """Which networks a method runs on, with a pair of them by name.

    Args:
        needs: of the method.
        takes_teacher: whether it has one; otherwise a student is named alone.
        options: of the method; with `layers` it compares layers of any network, named by path.

    >>> runs_on(("pooled",))
    'networks that end in a linear layer, such as resnet56 -> resnet20'
    >>> runs_on(("stages", "branches"), takes_teacher=False)
    'networks of attar.list_models(), such as resnet20'
    """
    pairs = pairs_of(needs)
    student = " ".join([pairs.student, *(f"{key}={value}" for key, value in pairs.options.items())])
    named = f"{pairs.teacher} -> {student}" if takes_teacher else student
    paths = ", or on any with layers named by path (method.layers=)" if "layers" in (options or ()) else ""
    return f"{pairs.what}, such as {named}{paths}"


@contextmanager
def naming_pairs(method: str, pairs: str) -> Iterator[None]:
    """Within it, an error about the networks ends with those that the method runs on.

    Raises:
        PairError: as raised inside, with the names.

    >>> with naming_pairs("kd", "networks of the same classes"):
    ...     raise PairError("6 and 5 classes")
    Traceback (most recent call last):
    attar.errors.PairError: 6 and 5 classes; kd runs on networks of the same classes
    """
    try:
        yield
    except PairError as error:
        if error.runs_on:
            raise
        raise PairError(error.reason, f"{method} runs on {pairs}") from None
