"""YAML of unknown origin, looked through before anything is built from it."""

from __future__ import annotations

import yaml

from attar.errors import AttarError

# Far above what a recipe or a suite needs; parsers recurse, and references multiply.
MOST_BYTES, MOST_NODES, MOST_DEPTH, LONGEST = 1_000_000, 10_000, 40, 4096
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_yaml(text: str, what: str, most_nodes: int = MOST_NODES) -> None:
    """Refuse a text that would take long to build or much memory, in time proportional to its length.

    Counted are values as they will be built: a reference to an anchor (`*a`) counts as often as what it refers to.

    Args:
        text: YAML, or what should be.
        what: how messages call it.
        most_nodes: how many values it may have.

    Raises:
        AttarError: it is nested too deeply, has too many or too long values, or refers to itself.

    >>> check_yaml("a: [1, 2]", "recipe")
    >>> check_yaml("a: " + "[" * 50, "recipe")
    Traceback (most recent call last):
    attar.errors.AttarError: recipe is nested more than 40 deep (line 1); write it flatter
    """
    sizes: dict[str, int] = {}  # of what each anchor names
    open_: list[tuple[str | None, int]] = []  # anchors of the collections around, and the count before them
    count = 0
    for event in yaml.parse(text, Loader=Loader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_):
                raise AttarError(
                    f"{what} has a value that contains itself, *{event.anchor} (line {line}); write it out"
                )
            count += sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if len(event.value) > LONGEST:
                raise AttarError(f"{what} has a value of {len(event.value)} characters (line {line}), above {LONGEST}")
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            count += 1
            open_.append((event.anchor, count - 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = count - before
        if len(open_) > MOST_DEPTH:
            raise AttarError(f"{what} is nested more than {MOST_DEPTH} deep (line {line}); write it flatter")
        if count > most_nodes:
            raise AttarError(f"{what} has more than {most_nodes} values, references written out (line {line})")
