"""Which split (train, val or test) a folder, a shard or a value in a table names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from attar.errors import AttarError

ROLES = ("train", "val", "test")
WORDS = {
    "train": ("train", "training", "trainset", "trn", "trainval"),
    "val": ("val", "valid", "validation", "validate", "validating", "valset", "dev", "devel", "eval", "evaluation"),
    "test": ("test", "testing", "testset", "tst"),
}
ROLE_OF = {word: role for role, words in WORDS.items() for word in words}
# What names of splits have beside the word itself.
GENERAL = frozenset(
    ("set", "sets", "data", "dataset", "split", "part", "images", "image", "imgs", "img", "pictures", "photos", "seg")
)


def roles_in(name: str) -> set[str]:
    """Every role that a word of the name stands for, whatever its case.

    >>> sorted(roles_in("seg_train")), sorted(roles_in("VAL2017")), sorted(roles_in("invalid"))
    (['train'], ['val'], [])
    """
    return {ROLE_OF[word] for word in _words(name) if word in ROLE_OF}


def role_of(name: str) -> str | None:
    """The one role that a name stands for; None where there is none, or more than one.

    >>> role_of("Testing"), role_of("train-vs-test"), role_of("cats")
    ('test', None, None)
    """
    roles = roles_in(name)
    return roles.pop() if len(roles) == 1 else None


def is_split_name(name: str) -> bool:
    """Whether a name is that of a split and nothing else; "bullet train" is not.

    >>> is_split_name("Training Set"), is_split_name("bullet train")
    (True, False)
    """
    return role_of(name) is not None and all(word in ROLE_OF or word in GENERAL for word in _words(name))


def by_role(names: Iterable[str], place: object, what: str) -> tuple[dict[str, str], list[str]]:
    """The name of each role in the order train, val, test, and the names without a role.

    Args:
        names: of folders or splits.
        place: where they are, for the message.
        what: what they are called ("folders").

    Raises:
        AttarError: two names stand for one role.
    """
    roles: dict[str, str] = {}
    rest = []
    for name in names:
        if (role := role_of(name)) is None:
            rest.append(name)
        elif (other := roles.setdefault(role, name)) != name:
            raise AttarError(f"{place} has the {what} {other!r} and {name!r} for one role ({role}); remove one of them")
    return {role: roles[role] for role in ROLES if role in roles}, rest


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())
